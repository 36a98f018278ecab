// Outstation is an edge appliance for factory sites: a local MQTT broker, a
// vision pipeline and a durable uplink to the centre in one process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "dev"

// shutdownTimeout bounds a clean stop.
const shutdownTimeout = 10 * time.Second

func main() {
	os.Exit(mainCode(os.Args[1:], os.Stdout, os.Stderr, appOptions{}))
}

// commands is the command line.
type commands struct {
	Run     runCommand     `cmd:"" help:"Run the appliance."`
	Reload  reloadCommand  `cmd:"" help:"Make a running appliance read its configuration again."`
	Config  configCommand  `cmd:"" help:"Work with the configuration."`
	Route   routeCommand   `cmd:"" help:"Ask where topics go."`
	Forward forwardCommand `cmd:"" help:"Ask what devices' messages become."`
	Token   tokenCommand   `cmd:"" help:"Let machines post events."`
	Uplink  uplinkCommand  `cmd:"" help:"Steer the link to the centre."`
	Ledger  ledgerCommand  `cmd:"" help:"Account for every record, by route."`
	Queue   queueCommand   `cmd:"" help:"Look into the queue, move it, or mend it."`
	Clients clientsCommand `cmd:"" help:"See which devices are connected, and keep one out."`
	Camera  cameraCommand  `cmd:"" help:"Look at a camera before it is configured."`
	DLQ     dlqCommand     `cmd:"" name:"dlq" help:"Work with dead letters."`
	Model   modelCommand   `cmd:"" help:"Manage detection models: fetch, try, activate, roll back."`
	User    userCommand    `cmd:"" help:"Work with the users of the local broker."`
	Sim     simCommand     `cmd:"" help:"Work with the simulated line."`
	Demo    demoCommand    `cmd:"" help:"Try the appliance without a centre."`

	Acceptance acceptanceCommand `cmd:"" help:"Prove that this machine and its centre lose nothing, on a simulated line."`

	Version     versionCommand   `cmd:"" help:"Print the version."`
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`
}

// env is what every command is given.
type env struct {
	out    io.Writer
	errOut io.Writer
	ctx    context.Context
	apps   appOptions
}

// mainCode runs one command and returns the exit status: 0 for success, 1 for
// a failure, 2 for a command line or configuration that cannot be used, 3 for an
// appliance that wants to be started again.
func mainCode(args []string, out, errOut io.Writer, apps appOptions) int {
	var cli commands
	exit := -1
	parser, err := kong.New(&cli,
		kong.Name("outstation"),
		kong.Description("An edge appliance: local MQTT broker, camera inspection and a durable uplink in one process."),
		kong.Vars{"default_ban": defaultBan, "page": defaultPage, "version": "outstation " + version}, kong.UsageOnError(), kong.Writers(out, errOut), kong.Exit(func(code int) { exit = code }))
	if err != nil {
		fmt.Fprintln(errOut, "outstation:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help or --version
		return exit
	}
	if err != nil {
		fmt.Fprintln(errOut, "outstation:", err)
		return 2
	}
	ctx, stop := signals(errOut)
	defer stop()
	if err := command.Run(&env{out: out, errOut: errOut, ctx: ctx, apps: apps}); err != nil {
		fmt.Fprintln(errOut, "outstation:", err)
		if errors.As(err, new(usageError)) {
			return 2
		}
		if errors.As(err, new(restartError)) {
			return restartCode
		}
		return 1
	}
	return 0
}

// usageError is what the user has to mend before anything is started.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// signals returns a context that ends on the first SIGINT or SIGTERM. The
// second, or a stop that takes longer than shutdownTimeout, ends the process
// at once.
func signals(errOut io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	received := make(chan os.Signal, 2)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-received:
		case <-ctx.Done():
			return
		}
		cancel()
		select {
		case <-received:
			fmt.Fprintln(errOut, "outstation: second signal, ending at once")
		case <-time.After(shutdownTimeout):
			fmt.Fprintf(errOut, "outstation: not stopped within %v, ending at once\n", shutdownTimeout)
		}
		os.Exit(1)
	}()
	return ctx, func() {
		signal.Stop(received)
		cancel()
	}
}
