// Command temporal-devserver runs a Temporal server and its UI in one process,
// for development and tests, with all its data in one SQLite file.
//
// It takes the command and the flags of the Temporal CLI's own development
// server (temporal server start-dev ...), so that either can be started by the
// same command line, and answers --version with the server's version.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	uiversion "github.com/temporalio/ui-server/v2/server/version"
	"go.temporal.io/server/common/headers"
)

// A stop that takes longer than this is given up: the database is safe at any time.
const stopLimit = 10 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "temporal-devserver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && (args[0] == "--version" || args[0] == "version") {
		fmt.Printf("temporal-devserver (Server %s, UI %s)\n", headers.ServerVersion, uiversion.UIVersion)
		return nil
	}
	if len(args) < 2 || args[0] != "server" || args[1] != "start-dev" {
		return errors.New("usage: temporal-devserver server start-dev [flags], or temporal-devserver --version")
	}
	opts, err := parseOptions(args[2:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	interrupted, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	return serve(interrupted, opts)
}

// serve runs until the context ends, then stops in order.
func serve(ctx context.Context, opts *options) error {
	server, err := newServer(opts)
	if err != nil {
		return err
	}
	if !opts.headless {
		ui := newUI(opts)
		// It serves until it is stopped, and ends the process where its port is taken.
		go func() { _ = ui.Start() }()
		defer ui.Stop()
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting the server: %w", err)
	}
	<-ctx.Done()

	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop() }()
	select {
	case err := <-stopped:
		return err
	case <-time.After(stopLimit):
		return fmt.Errorf("not stopped after %s", stopLimit)
	}
}
