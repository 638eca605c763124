package optimizer

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// closeTimeout bounds how long Close and Flush wait under a context that has no deadline.
const closeTimeout = 5 * time.Second

// Config is how to reach the optimizer, and how patient to be. Only Endpoint is required.
type Config struct {
	// Endpoint is the server's address, such as "http://optimizer:8080".
	Endpoint string
	// APIKey is a key with the scopes ingest and read; by default OPTIMIZER_API_KEY, if that is set.
	APIKey string
	// Timeout is how long one try may take; by default 5 s.
	Timeout time.Duration
	// Retries is how often a failed call is tried again, where that may help; by default 3, negative: never.
	Retries int
	// PollInterval is how often the server is asked for changes where it cannot be streamed from; by default
	// 30 s.
	PollInterval time.Duration
	// PollOnly leaves the stream out, which takes a connection per scope.
	PollOnly bool
	// Default is served until the server was first reached, and so needs no version; by default nothing is.
	Default *LLMConfig
	// CacheDir is a folder in which the last known configurations are kept for the next start; by default none.
	CacheDir string
	// QueueSize is how many tracked calls may wait to be reported; past it the oldest give way. By default
	// 10,000.
	QueueSize int
	// HTTPClient is a client of one's own (proxies, certificates); its Timeout is not used.
	HTTPClient *http.Client
	// Logger is told of what goes wrong in the background; by default slog.Default().
	Logger *slog.Logger
}

// Client fetches configurations, reports calls, and steers the optimizer. It is safe for concurrent use, and
// to be closed when it is no longer needed.
type Client struct {
	transport *transport
	configs   *configs
	queue     *queue
	handed    handedOut // under contexts that never end
	end       context.CancelFunc
	closing   sync.Once
}

// NewClient makes a client. It does not talk to the server yet; an endpoint or key that cannot be right is told
// by every call.
func NewClient(config Config) *Client {
	if config.APIKey == "" {
		config.APIKey = os.Getenv("OPTIMIZER_API_KEY")
	}
	config.Timeout = positive(config.Timeout, 5*time.Second)
	config.PollInterval = positive(config.PollInterval, 30*time.Second)
	config.QueueSize = positive(config.QueueSize, 10_000)
	if config.Retries == 0 {
		config.Retries = 3
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	life, end := context.WithCancel(context.Background())
	transport := newTransport(config)
	return &Client{
		transport: transport,
		configs: &configs{
			transport: transport,
			instance:  randomID(),
			fallback:  config.Default,
			kept:      openDiskCache(config.CacheDir, transport.base, config.Logger),
			poll:      config.PollInterval,
			streaming: !config.PollOnly,
			logger:    config.Logger,
			life:      life,
			scopes:    map[Scope]*entry{},
		},
		queue: &queue{
			transport: transport,
			capacity:  config.QueueSize,
			logger:    config.Logger,
			life:      life,
			wake:      make(chan struct{}, 1),
			idle:      make(chan struct{}),
		},
		handed: handedOut{shared: true},
		end:    end,
	}
}

func positive[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// GetConfig gives the global configuration to call with, as [Client.GetConfigForService] does a service's.
func (c *Client) GetConfig(ctx context.Context) (*ServedConfig, error) {
	return c.getConfig(ctx, Scope{})
}

// GetConfigForService gives the configuration to call with: an endpoint's, or where that is empty the service's.
//
// It is meant to be asked before every call. The first one waits for the server; later ones are answered from
// memory, which is kept fresh in the background. While a rollout runs, the unit of the context (see [WithCall])
// decides who gets the canary; without one each call is drawn by the canary's share. A canary that nobody
// watches any more is not served.
//
// Where the server was never reached, the configuration kept in [Config.CacheDir] or [Config.Default] is given,
// and only where there is neither the error.
func (c *Client) GetConfigForService(ctx context.Context, service, endpoint string) (*ServedConfig, error) {
	return c.getConfig(ctx, Scope{service, endpoint})
}

func (c *Client) getConfig(ctx context.Context, scope Scope) (*ServedConfig, error) {
	unit := ""
	if call := callOf(ctx); call != nil {
		unit = call.unit
	}
	config, err := c.configs.get(ctx, scope, unit)
	if err != nil {
		return nil, err
	}
	c.handedUnder(ctx).remember(scope.Service, config)
	return config, nil
}

// ConfigFor gives the configuration of a unit, by default the global one, from memory: without any I/O. It is
// nil where none was fetched yet, none was kept on disk and there is no default. It belongs to no call: tell the
// tracker of it by [RequestTracker.SetConfig].
func (c *Client) ConfigFor(unit string, scope ...Scope) *ServedConfig {
	return c.configs.current(first(scope), unit)
}

// CurrentConfig gives the configuration of this instance, as [Client.ConfigFor] does that of a unit. An instance
// is a unit too, by a random id of its own.
func (c *Client) CurrentConfig(scope ...Scope) *ServedConfig {
	return c.configs.current(first(scope), c.configs.instance)
}

// SubscribeConfigUpdates gives the configuration of this instance, by default the global one, as soon as it is
// known and again whenever it changes. A reader that is slow gets the newest. The channel is closed when ctx
// ends or the client is closed. The error is that of a context or a client that has ended already.
func (c *Client) SubscribeConfigUpdates(ctx context.Context, scope ...Scope) (<-chan ConfigUpdate, error) {
	e := c.configs.follow(first(scope))
	if e == nil {
		return nil, ErrClosed
	}
	return e.subscribe(ctx)
}

func first(scope []Scope) Scope {
	if len(scope) == 0 {
		return Scope{}
	}
	return scope[0]
}

// DroppedReports counts the tracked calls that were never reported: incomplete, refused, too many at once, or
// not sent before the client was closed.
func (c *Client) DroppedReports() int64 { return c.queue.dropped.Load() }

// Flush waits until every tracked call so far is reported. It fails when ctx ends first, or after 5 s where ctx
// has no deadline.
func (c *Client) Flush(ctx context.Context) error {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, closeTimeout)
		defer cancel()
	}
	return c.queue.flush(ctx)
}

// Close reports what still waits, as [Client.Flush] does, and ends everything that runs in the background. What
// could not be reported is counted as dropped. A closed client still gives the configurations that it knows.
func (c *Client) Close(ctx context.Context) error {
	var err error
	c.closing.Do(func() {
		err = c.Flush(ctx)
		c.queue.close()
		c.end()
		c.queue.running.Wait()
		c.configs.close()
		c.transport.close()
	})
	return err
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.send(ctx, get(path, query), nil, out)
}

func (c *Client) post(ctx context.Context, path string, body, out any) error {
	req, err := post(path, body)
	return c.send(ctx, req, err, out)
}

func (c *Client) put(ctx context.Context, path string, body, out any) error {
	req, err := withBody(http.MethodPut, path, body)
	return c.send(ctx, req, err, out)
}

// send makes a call of the API, unless the request could not be made or the client is closed.
func (c *Client) send(ctx context.Context, req *request, err error, out any) error {
	if err != nil {
		return err
	}
	if c.configs.life.Err() != nil {
		return ErrClosed
	}
	return c.transport.call(ctx, req, out)
}
