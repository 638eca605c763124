package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"strings"

	"go.temporal.io/server/common/dynamicconfig"
)

type options struct {
	ip            string
	port          int
	uiPort        int
	headless      bool
	dbFilename    string // empty keeps everything in memory
	logLevel      string
	dynamicConfig dynamicValues
}

// dynamicValues is the flag --dynamic-config-value KEY=JSON, which may be repeated.
type dynamicValues map[string]any

func (d dynamicValues) String() string { return "" }

func (d dynamicValues) Set(text string) error {
	key, encoded, found := strings.Cut(text, "=")
	if !found || key == "" {
		return fmt.Errorf("%q is not KEY=JSON", text)
	}
	var value any
	if err := json.Unmarshal([]byte(encoded), &value); err != nil {
		return fmt.Errorf("the value of %s is not JSON: %w", key, err)
	}
	d[key] = value
	return nil
}

// client answers with the given values, and otherwise with what suits one
// process that serves one developer.
func (d dynamicValues) client() dynamicconfig.Client {
	values := dynamicconfig.StaticClient{
		// A search attribute is usable as soon as it has been added.
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
		dynamicconfig.EnableServerVersionCheck.Key():                false,
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():      1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key():     1,
	}
	for key, value := range d {
		values[dynamicconfig.MakeKey(key)] = value
	}
	return values
}

func parseOptions(args []string) (*options, error) {
	opts := &options{dynamicConfig: dynamicValues{}}
	flags := flag.NewFlagSet("temporal-devserver server start-dev", flag.ContinueOnError)
	flags.StringVar(&opts.ip, "ip", "127.0.0.1", "address to listen on")
	flags.IntVar(&opts.port, "port", 7233, "port of the frontend (gRPC)")
	flags.IntVar(&opts.uiPort, "ui-port", 0, "port of the UI (default: the frontend's plus 1000)")
	flags.BoolVar(&opts.headless, "headless", false, "run without the UI")
	flags.StringVar(&opts.dbFilename, "db-filename", "", "SQLite file of the data (default: in memory, lost at the end)")
	flags.StringVar(&opts.logLevel, "log-level", "warn", "debug, info, warn or error")
	flags.Var(opts.dynamicConfig, "dynamic-config-value", "a dynamic configuration value, `KEY=JSON`; may be repeated")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if opts.uiPort == 0 {
		opts.uiPort = opts.port + 1000
	}
	return opts, nil
}
