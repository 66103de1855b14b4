package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// GrantRights gives the service account of the server the rights that build/kube-system has for it, as an operator would:
// those of the base and of components, such as "pods". top is the way to the top of the repository.
func (c *Cluster) GrantRights(ctx context.Context, top string, components ...string) error {
	folder := filepath.Join(top, "build", "kube-system")
	paths := []string{filepath.Join(folder, "base", "rbac.yaml")}
	for _, component := range components {
		paths = append(paths, filepath.Join(folder, "components", component, "rbac.yaml"))
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := c.ApplyYAML(ctx, "kube-system", string(text)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}
