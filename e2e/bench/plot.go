package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// plot draws the tables that a file has between its markers, as SVG, beside the program that draws them.
func plot(readme string) error {
	path, err := filepath.Abs(readme)
	if err != nil {
		return err
	}
	// The program is a module of its own, for the sake of what it needs.
	if output, err := exec.Command("go", "-C", "bench/plots", "run", ".", path).CombinedOutput(); err != nil {
		return fmt.Errorf("plots: %w: %s", err, output)
	}
	return nil
}
