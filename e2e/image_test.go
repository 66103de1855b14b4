package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/kubezone/kubezone/e2e/harness"
)

// imageFolder is where `make image` leaves the archives: $KUBEZONE_IMAGES, else bin/image.
func imageFolder() string {
	if dir := os.Getenv("KUBEZONE_IMAGES"); dir != "" {
		return dir
	}
	return "../bin/image"
}

// images are ours, each of which is unpacked once in a run.
var images = map[string]func() (*harness.Image, error){
	"kubezone":      sync.OnceValues(func() (*harness.Image, error) { return unpack("kubezone") }),
	"kubezone-node": sync.OnceValues(func() (*harness.Image, error) { return unpack("kubezone-node") }),
}

func unpack(name string) (*harness.Image, error) {
	return harness.UnpackImage(filepath.Join(imageFolder(), name+".tar"), runtime.GOARCH, filepath.Join(logs, name))
}

// unpacked is one of our images, which several pods may have as their root while none writes to it.
func unpacked(t *testing.T, name string) *harness.Image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: unpacking an image takes root")
	}
	image, err := images[name]()
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// hasNoMoreThanPort53 checks what the kernel lets the process of the recommended deployment do.
func hasNoMoreThanPort53(t *testing.T, n *node) {
	t.Helper()
	const bindService = "0000000000000400" // the capability with number 10
	status := n.pod.Status(t)
	for name, want := range map[string]string{
		"Uid": "65532\t65532\t65532\t65532", "Gid": "65532\t65532\t65532\t65532",
		"CapEff": bindService, "CapPrm": bindService, "CapBnd": bindService,
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1",
		"Seccomp":    "2", // a filter
	} {
		if got := status[name]; got != want {
			t.Errorf("%s of the server is %q; want %q", name, got, want)
		}
	}
}

// The binary of the image for kube-system has its capability from the pod and the file together: a pod that does not give
// it has no server. The image for nodes has no such file, and may write to its root.
func TestImagesAndPrivileges(t *testing.T) {
	t.Parallel()
	const corefile = ".:53 {\n\twhoami\n\thealth\n}\n"
	for _, test := range []struct {
		image  string
		change func(*corev1.PodSpec)
		starts bool
	}{
		{"kubezone", func(*corev1.PodSpec) {}, true},
		{"kubezone", func(s *corev1.PodSpec) { s.Containers[0].SecurityContext.Capabilities.Add = nil }, false},
		{"kubezone-node", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: s.SecurityContext.SeccompProfile}
			*s.Containers[0].SecurityContext.ReadOnlyRootFilesystem = false
		}, true},
	} {
		n := harness.NewNetns(t)
		var d appsv1.Deployment
		text, err := os.ReadFile(manifests + "/base/deployment.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		pod := &harness.Pod{Spec: d.Spec.Template.Spec, Image: unpacked(t, test.image), Netns: n, Address: "127.0.0.1:53",
			Volumes: podVolumes(t, corefile), Account: t.TempDir()}
		test.change(&pod.Spec)
		s := pod.Start(t)
		if !test.starts {
			<-s.Done()
			if !strings.Contains(s.Log(), "operation not permitted") {
				t.Errorf("%s without the capability says %q; want that it is not permitted", test.image, s.Log())
			}
			continue
		}
		harness.Eventually(t, 20*time.Second, func() error {
			_, err := s.Exchange(new(dns.Msg).SetQuestion("example.org.", dns.TypeA), "udp")
			return err
		})
	}
}
