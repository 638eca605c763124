package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"go.temporal.io/server/common/config"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	namespaceName = "default"
	retention     = 7 * 24 * time.Hour
)

// openDatabase gives the settings of a database that has its tables and the
// namespace, made on first use. An empty file name means one in memory.
func openDatabase(file string) (*config.SQL, error) {
	database := inMemory()
	if file != "" {
		if err := createFile(file); err != nil {
			return nil, fmt.Errorf("creating %s: %w", file, err)
		}
		database = inFile(file, map[string]string{"journal_mode": "wal", "synchronous": "normal"})
	}
	namespace, err := sqlite.NewNamespaceConfig(clusterName, namespaceName, false, nil)
	if err != nil {
		return nil, err
	}
	namespace.Detail.Config.Retention = durationpb.New(retention)
	if err := sqlite.CreateNamespaces(database, namespace); err != nil {
		return nil, fmt.Errorf("creating the namespace: %w", err)
	}
	return database, nil
}

func inMemory() *config.SQL {
	return &config.SQL{
		PluginName:        sqliteplugin.PluginName,
		DatabaseName:      "temporal",
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
	}
}

func inFile(file string, attributes map[string]string) *config.SQL {
	attributes["mode"] = "rwc"
	path := (&url.URL{Path: file}).EscapedPath() // it becomes part of a URI
	return &config.SQL{PluginName: sqliteplugin.PluginName, DatabaseName: path, ConnectAttributes: attributes}
}

// createFile makes the database file where there is none. It gets its name
// only when the tables are all there, so that a start cut short leaves no half.
func createFile(file string) error {
	_, err := os.Stat(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unfinished := file + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := sqlite.SetupSchema(inFile(unfinished, map[string]string{"synchronous": "off"})); err != nil {
		return err
	}
	return os.Rename(unfinished, file)
}
