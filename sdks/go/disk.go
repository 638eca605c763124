package optimizer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
)

// diskCache keeps the last known configuration of every scope of a server, a file each, in a folder that
// processes may share. A canary is never kept: after a restart nobody knows whether it is still watched.
//
// Nothing here fails: a folder that cannot be read or written is logged, and the client goes on without.
type diskCache struct {
	folder string // empty: nothing is kept
	server string
	logger *slog.Logger

	mu      sync.Mutex
	kept    map[Scope]*ServedConfig
	writing sync.Mutex // apart, so that a read never waits for the disk
}

// keptConfig is the content of a file.
type keptConfig struct {
	Server string `json:"server"`
	Scope
	ServedConfig
}

// openDiskCache reads the folder. One that is not there is as good as empty, and so is what is no kept
// configuration of this server's.
func openDiskCache(folder, server string, logger *slog.Logger) *diskCache {
	d := &diskCache{folder: folder, server: server, logger: logger, kept: map[Scope]*ServedConfig{}}
	if folder == "" {
		return d
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.config.json"))
	for _, path := range paths {
		var content []byte
		var kept keptConfig
		if content, err = os.ReadFile(path); err == nil {
			err = json.Unmarshal(content, &kept)
		}
		if err != nil {
			logger.Warn("a kept configuration is not used", "path", path, "error", err)
		} else if kept.Server == server && kept.ServedConfig.whole() {
			d.kept[kept.Scope] = kept.ServedConfig.copy()
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
	if d.folder == "" {
		return
	}
	kept := &ServedConfig{Version: config.Version, LLMConfig: config.LLMConfig}
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	same := reflect.DeepEqual(d.kept[scope], kept)
	d.kept[scope] = kept
	d.mu.Unlock()
	if same {
		return
	}
	if err := d.write(keptConfig{d.server, scope, *kept}); err != nil {
		d.logger.Warn("configuration not kept on the disk", "folder", d.folder, "error", err)
	}
}

// write replaces a scope's file, whole or not at all.
func (d *diskCache) write(kept keptConfig) error {
	content, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(d.folder, 0o755); err != nil {
		return err
	}
	path := filepath.Join(d.folder, keptName(d.server, kept.Scope))
	file, err := os.CreateTemp(d.folder, filepath.Base(path)+".*")
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
		err = os.Rename(file.Name(), path)
	}
	return err
}

// keptName names a scope's file, as the other SDKs do.
func keptName(server string, scope Scope) string {
	digest := sha256.Sum256([]byte(strings.Join([]string{server, scope.Service, scope.Endpoint}, "\n")))
	return hex.EncodeToString(digest[:16]) + ".config.json"
}
