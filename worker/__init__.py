"""The Temporal worker process: client, interceptors, dispatcher, schedules."""
