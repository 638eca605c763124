package optimizer

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
)

// diskCache keeps the last known configuration of every scope in a file, replaced as a whole. A canary is never
// kept: after a restart nobody knows whether it is still watched.
type diskCache struct {
	path   string // empty: nothing is kept
	logger *slog.Logger

	mu      sync.Mutex
	kept    map[Scope]*ServedConfig
	writing sync.Mutex // apart, so that a read never waits for the disk
}

// keptConfig is an element of the file's JSON array.
type keptConfig struct {
	Scope
	ServedConfig
}

// openDiskCache reads the file. One that is not there, or that cannot be read, is as good as empty.
func openDiskCache(path string, logger *slog.Logger) *diskCache {
	d := &diskCache{path: path, logger: logger, kept: map[Scope]*ServedConfig{}}
	if path == "" {
		return d
	}
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return d
	}
	var kept []keptConfig
	if err == nil {
		err = json.Unmarshal(content, &kept)
	}
	if err != nil {
		logger.Warn("no configuration taken from the disk", "path", path, "error", err)
		return d
	}
	for _, one := range kept {
		if one.ServedConfig.whole() {
			d.kept[one.Scope] = one.ServedConfig.copy()
		}
	}
	return d
}

// get gives what was kept of the scope, or nil.
func (d *diskCache) get(scope Scope) *ServedConfig {
	d.mu.Lock()
	defer d.mu.Unlock()
	if kept := d.kept[scope]; kept != nil {
		return kept.copy()
	}
	return nil
}

// put keeps a scope's configuration, where it is not the one that is kept already.
func (d *diskCache) put(scope Scope, config *ServedConfig) {
	if d.path == "" {
		return
	}
	kept := &ServedConfig{Version: config.Version, LLMConfig: config.LLMConfig}
	d.mu.Lock()
	same := reflect.DeepEqual(d.kept[scope], kept)
	d.kept[scope] = kept
	d.mu.Unlock()
	if same {
		return
	}
	if err := d.write(); err != nil {
		d.logger.Warn("configuration not kept on the disk", "path", d.path, "error", err)
	}
}

// write replaces the file, whole or not at all.
func (d *diskCache) write() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	all := make([]keptConfig, 0, len(d.kept))
	for scope, config := range d.kept {
		all = append(all, keptConfig{scope, *config})
	}
	d.mu.Unlock()
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(d.path), filepath.Base(d.path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already where the rename succeeded
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), d.path)
	}
	return err
}
