"""The backtest: a service's record through a policy, told in lines."""

from cli.backtesting.run import BacktestError, Options, run_backtest

__all__ = ["BacktestError", "Options", "run_backtest"]
