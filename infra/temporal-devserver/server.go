package main

import (
	"fmt"
	"net"
	"strconv"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
)

const (
	loopback    = "127.0.0.1"
	clusterName = "active"
	storeName   = "sqlite-default"
)

// newServer builds the server on a database that is ready, and starts nothing.
func newServer(opts *options) (temporal.Server, error) {
	database, err := openDatabase(opts.dbFilename)
	if err != nil {
		return nil, err
	}
	services, hosts, err := placeServices(opts)
	if err != nil {
		return nil, err
	}
	conf := serverConfig(opts, database, services)
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: opts.logLevel}))
	authorizer, err := authorization.GetAuthorizerFromConfig(&conf.Global.Authorization)
	if err != nil {
		return nil, fmt.Errorf("building the authorizer: %w", err)
	}
	claimMapper, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, logger)
	if err != nil {
		return nil, fmt.Errorf("building the claim mapper: %w", err)
	}
	return temporal.NewServer(
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claimMapper }),
		temporal.WithDynamicConfigClient(opts.dynamicConfig.client()),
	)
}

func serverConfig(opts *options, database *config.SQL, services map[string]config.Service) *config.Config {
	frontend := net.JoinHostPort(loopback, strconv.Itoa(opts.port))
	conf := &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     storeName,
			VisibilityStore:  storeName,
			NumHistoryShards: 1, // as the Temporal CLI has it: SQLite has one writer
			DataStores:       map[string]config.DataStore{storeName: {SQL: database}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		PublicClient:        config.PublicClient{HostPort: frontend},
	}
	conf.Archival.History.State = "disabled"
	conf.Archival.Visibility.State = "disabled"
	conf.NamespaceDefaults.Archival.History.State = "disabled"
	conf.NamespaceDefaults.Archival.Visibility.State = "disabled"
	return conf
}

// placeServices gives each service its port: the frontend the asked one, the
// others free ones. The places are fixed, so no membership protocol runs.
func placeServices(opts *options) (map[string]config.Service, map[primitives.ServiceName]static.Hosts, error) {
	services := make(map[string]config.Service)
	hosts := make(map[primitives.ServiceName]static.Hosts)
	ports, err := freePorts(len(temporal.DefaultServices))
	if err != nil {
		return nil, nil, err
	}
	for i, name := range temporal.DefaultServices {
		rpc := config.RPC{GRPCPort: ports[i], BindOnIP: loopback}
		if name == string(primitives.FrontendService) {
			rpc = config.RPC{GRPCPort: opts.port, BindOnIP: opts.ip}
		}
		services[name] = config.Service{RPC: rpc}
		address := net.JoinHostPort(loopback, strconv.Itoa(rpc.GRPCPort))
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(address)
	}
	return services, hosts, nil
}

// freePorts gives ports that were free together a moment ago.
func freePorts(count int) ([]int, error) {
	ports := make([]int, count)
	for i := range ports {
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func newUI(opts *options) *uiserver.Server {
	return uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host:                opts.ip,
		Port:                opts.uiPort,
		TemporalGRPCAddress: net.JoinHostPort(loopback, strconv.Itoa(opts.port)),
		DefaultNamespace:    namespaceName,
		EnableUI:            true,
		DisableNewsFetch:    true,
		HideLogs:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true},
	}))
}
