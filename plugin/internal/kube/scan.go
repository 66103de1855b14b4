package kube

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A scan is what there is to read, with the times that tell of changes.
type scan struct {
	files   []string
	folders map[string]bool // in which a change may concern the files
	newest  time.Time       // of the changes to files and folders read
	print   string          // another one if something changed
}

func (s scan) has(file string) bool { return slices.Contains(s.files, file) }

// scanPaths finds the manifests in files and folders, those in folders by their
// endings. What begins with a dot is passed over, as in the mount of a
// ConfigMap, where every file is a link into a folder named so.
func scanPaths(paths []string) (scan, error) {
	s := scan{folders: map[string]bool{}}
	visited := map[string]bool{}
	for _, path := range paths {
		path = filepath.Clean(path)
		st, err := os.Stat(path)
		if err != nil {
			return scan{}, fmt.Errorf("manifests %q: want a file or a folder: %w", path, err)
		}
		if st.IsDir() {
			err = s.addFolder(path, visited)
		} else {
			err = s.addFile(path)
		}
		if err != nil {
			return scan{}, err
		}
	}
	return s, nil
}

func (s *scan) addFolder(folder string, visited map[string]bool) error {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	if visited[real] {
		return nil
	}
	visited[real] = true
	if err := s.note(folder); err != nil {
		return err
	}
	s.folders[folder] = true
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			continue
		}
		path := filepath.Join(folder, e.Name())
		st, err := os.Stat(path) // of what a link points to
		switch {
		case err != nil:
			return err
		case st.IsDir():
			err = s.addFolder(path, visited)
		case isManifest(path):
			err = s.addFile(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// addFile adds a file with the folder that it is in and the one that a link
// leads to.
func (s *scan) addFile(file string) error {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	s.files = append(s.files, file)
	s.folders[filepath.Dir(file)] = true
	s.folders[filepath.Dir(real)] = true
	return s.note(file)
}

// note adds the path to the print.
func (s *scan) note(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.ModTime().After(s.newest) {
		s.newest = st.ModTime()
	}
	s.print += fmt.Sprintf("%q %d %d\n", path, st.Size(), st.ModTime().UnixNano())
	return nil
}
