// Package optimizer is the client of LLM Auto-Optimizer: it fetches the LLM configuration that an application
// is to call with, and reports what each call cost and how good it was.
//
// A [Client] keeps each configuration that it was once asked for fresh in the background, by a stream of
// server-sent events or, where none can be had, by polling. After the first fetch a call never waits for the
// optimizer, nor fails because of it: with the server gone, slow or answering nonsense the last configuration
// holds, and reports wait in a bounded queue.
//
// While a change is rolled out, units (users, sessions) are assigned to the old or to the new configuration by
// their hash, as the server and the other SDKs do it, with no request per call.
//
// Every failed call gives an error that [errors.As] finds an [*APIError] in and [errors.Is] compares with
// [ErrNotFound], [ErrConflict] and the others.
package optimizer
