package population

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// created is when every object was made: long ago, so that no server takes one for new.
var created = metav1.NewTime(time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC))

// managedFields is what an API server notes of a writer. It is a good part of an object, and no use to the DNS.
func managedFields(manager, fields string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{
		Manager:    manager,
		Operation:  metav1.ManagedFieldsOperationUpdate,
		APIVersion: "v1",
		Time:       &created,
		FieldsType: "FieldsV1",
		FieldsV1:   metav1.NewFieldsV1(fields),
	}}
}

func uid(kind byte, n int) types.UID {
	return types.UID(fmt.Sprintf("%02x000000-0000-4000-8000-%012x", kind, n))
}

const serviceFields = `{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},` +
	`"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},` +
	`"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}`

// ServiceObject is the object of the i-th service.
func (p *Population) ServiceObject(i int) *corev1.Service {
	s := &p.Services[i]
	ip := corev1.ClusterIPNone
	if !s.Headless() {
		ip = s.ClusterIP.String()
	}
	policy, cluster := corev1.IPFamilyPolicySingleStack, corev1.ServiceInternalTrafficPolicyCluster
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: s.Name, UID: uid(1, i), CreationTimestamp: created,
			Labels:        map[string]string{"app": s.Name},
			ManagedFields: managedFields("kubectl-client-side-apply", serviceFields),
		},
		Spec: corev1.ServiceSpec{
			Type:                  corev1.ServiceTypeClusterIP,
			ClusterIP:             ip,
			ClusterIPs:            []string{ip},
			Selector:              map[string]string{"app": s.Name},
			SessionAffinity:       corev1.ServiceAffinityNone,
			IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy:        &policy,
			InternalTrafficPolicy: &cluster,
			Ports:                 []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}

const sliceFields = `{"f:addressType":{},"f:endpoints":{},"f:metadata":{"f:generateName":{},"f:labels":{".":{},` +
	`"f:endpointslice.kubernetes.io/managed-by":{},"f:kubernetes.io/service-name":{}},"f:ownerReferences":{".":{},` +
	`"k:{\"uid\":\"01000000-0000-4000-8000-000000000000\"}":{}}},"f:ports":{}}`

// SliceObject is the object of the i-th slice, whose endpoints have the addresses that addr tells.
func (p *Population) SliceObject(i int, addr func(endpoint int) netip.Addr) *discoveryv1.EndpointSlice {
	slice := &p.Slices[i]
	s := &p.Services[slice.Service]
	yes, no := true, false
	port, portName, protocol := int32(8080), "http", corev1.ProtocolTCP
	o := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: fmt.Sprintf("%s-%05d", s.Name, slice.First-s.First), GenerateName: s.Name + "-",
			UID: uid(2, i), CreationTimestamp: created, Generation: 1,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: s.Name,
				discoveryv1.LabelManagedBy:   "endpointslice-controller.k8s.io",
				"app":                        s.Name,
			},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: s.Name, UID: uid(1, slice.Service), Controller: &yes, BlockOwnerDeletion: &yes,
			}},
			ManagedFields: managedFields("kube-controller-manager", sliceFields),
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Protocol: &protocol, Port: &port}},
		Endpoints:   make([]discoveryv1.Endpoint, slice.Count),
	}
	if s.Headless() {
		o.Labels[corev1.IsHeadlessService] = ""
	}
	for j := range o.Endpoints {
		n := slice.First + j
		node, zone := nodeOf(n), zoneOf(n)
		o.Endpoints[j] = discoveryv1.Endpoint{
			Addresses:  []string{addr(n).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: p.podName(s, n), UID: uid(3, n)},
			NodeName:   &node,
			Zone:       &zone,
		}
		if hostname := s.Hostname(n); hostname != "" {
			o.Endpoints[j].Hostname = &hostname
		}
	}
	return o
}

func nodeOf(endpoint int) string { return fmt.Sprintf("node-%d", endpoint/podsPerNode) }

func zoneOf(endpoint int) string { return fmt.Sprintf("region-1%c", 'a'+endpoint/podsPerNode%3) }

// podName ends in ten letters, as ReplicaSets name pods.
func (p *Population) podName(s *Service, n int) string {
	return fmt.Sprintf("%s-7d4b9c6f5-%05x", s.Name, n)
}

const podFields = `{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},` +
	`"k:{\"uid\":\"04000000-0000-4000-8000-000000000000\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{},` +
	`"f:image":{},"f:imagePullPolicy":{},"f:livenessProbe":{},"f:name":{},"f:ports":{},"f:readinessProbe":{},"f:resources":{},` +
	`"f:terminationMessagePath":{},"f:terminationMessagePolicy":{},"f:volumeMounts":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},` +
	`"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{},"f:volumes":{}}}`

// PodObject is the object of the pod behind an endpoint, which belongs to the service with this number.
func (p *Population) PodObject(n, service int) *corev1.Pod {
	s := &p.Services[service]
	ip := Addr(n).String()
	yes, grace, tolerate := true, int64(30), int64(300)
	probe := &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Namespace, Name: p.podName(s, n), GenerateName: s.Name + "-7d4b9c6f5-",
			UID: uid(3, n), CreationTimestamp: created,
			Labels: map[string]string{"app": s.Name, "pod-template-hash": "7d4b9c6f5"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: s.Name + "-7d4b9c6f5", UID: uid(4, service), Controller: &yes, BlockOwnerDeletion: &yes,
			}},
			ManagedFields: managedFields("kube-controller-manager", podFields),
		},
		Spec: corev1.PodSpec{
			Hostname:      s.Hostname(n),
			NodeName:      nodeOf(n),
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: "default-scheduler",
			ServiceAccountName: "default", TerminationGracePeriodSeconds: &grace, EnableServiceLinks: &yes,
			Containers: []corev1.Container{{
				Name: "app", Image: "registry.example.com/" + s.Namespace + "/" + s.Name + ":v1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
				Ports:         []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
				Env:           []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "LISTEN", Value: ":8080"}},
				LivenessProbe: probe, ReadinessProbe: probe,
				VolumeMounts:           []corev1.VolumeMount{{Name: "kube-api-access", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
				TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			}},
			Volumes: []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Tolerations: []corev1.Toleration{
				{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &tolerate},
				{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &tolerate},
			},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, QOSClass: corev1.PodQOSBurstable, StartTime: &created,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", Ready: true, Started: &yes, Image: "registry.example.com/" + s.Namespace + "/" + s.Name + ":v1.2.3",
				ImageID:     "registry.example.com/app@sha256:" + strings.Repeat("0123456789abcdef", 4),
				ContainerID: "containerd://" + strings.Repeat("fedcba9876543210", 4),
				State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: created}},
			}},
		},
	}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		o.Status.Conditions = append(o.Status.Conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: created})
	}
	return o
}

// NamespaceObject is the object of a namespace.
func NamespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: created, Labels: map[string]string{corev1.LabelMetadataName: name}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}
