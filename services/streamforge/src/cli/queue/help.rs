//! Examples and exit codes of each subcommand of `streamforge queue`.

pub(super) const QUEUE: &str = "\
Examples:
  streamforge queue start --symbol BTCUSDT --type api_candles_1m \\
      --time-range 2024-08-01:2024-08-31 --watch
  streamforge queue list
  streamforge queue watch abc123
  streamforge queue retry abc123

Environment: QUEUE_MANAGER_URL, QUEUE_MANAGER_TOKEN, QUEUE_MANAGER_CA_PATH. Without TLS a token is sent to \
loopback only.

Exit codes: 0 done; 1 failed; 2 wrong usage, also if queue-manager is the one to see it; 3 interrupted (what was \
watched was); 69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const START: &str = "\
Examples:
  streamforge queue start --symbol BTCUSDT --type api_candles_1m \\
      --time-range 2024-08-01:2024-08-31
  streamforge queue start --symbol BTCUSDT --symbol ETHUSDT \\
      --type api_candles_1h --time-range 2024-08-01:2024-08-31 --watch
  streamforge queue start --flow dummy_flow --param DUMMY_RECORDS_TOTAL=1000
  streamforge queue start --file pipeline.json --json

All are started, or none. It carries an Idempotency-Key, so what is sent again after a lost answer starts \
nothing twice.

Exit codes: 0 started, with --watch finished; 1 failed; 2 wrong usage, a symbol that the exchange does not have \
included; 3 interrupted (--watch); 69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const LIST: &str = "\
Examples:
  streamforge queue list
  streamforge queue list --status running,stalled --symbol BTCUSDT
  streamforge queue list --created-from 2024-08-01 --all --json

Exit codes: 0 done, also if there is none; 1 failed; 2 wrong usage; 69 queue-manager does not answer; 77 no \
permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const SHOW: &str = "\
Examples:
  streamforge queue show wf-btcusdt-api_candles_1m-20240801-abc123
  streamforge queue show abc123 --json

Exit codes: 0 shown, whatever its state; 1 failed, there is none of this id; 2 wrong usage; 69 queue-manager \
does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const WATCH: &str = "\
Examples:
  streamforge queue watch abc123
  streamforge queue watch                        all that have not ended
  streamforge queue watch abc123 && echo 'all candles are there'

Exit codes: 0 all finished; 1 one failed or was deleted; 2 wrong usage; 3 one was interrupted, and none failed; \
69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM: the workflows go on.";

pub(super) const STOP: &str = "\
Examples:
  streamforge queue stop abc123
  streamforge queue stop abc123 --drain --wait

Exit codes: 0 it is being stopped, or had ended before; with --wait, it has ended other than by a failure; 1 \
failed; 2 wrong usage; 69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const RETRY: &str = "\
Examples:
  streamforge queue retry abc123
  streamforge queue retry abc123 --watch

Exit codes: 0 started, with --watch finished; 1 failed, also if there is nothing to run again; 2 wrong usage; 3 \
interrupted (--watch); 69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const DELETE: &str = "\
Examples:
  streamforge queue delete abc123
  streamforge queue delete abc123 --force

Exit codes: 0 it is being removed; 1 failed, also if it has not ended and --force is not given; 2 wrong usage; \
69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";

pub(super) const EVENTS: &str = "\
Examples:
  streamforge queue events abc123
  streamforge queue events abc123 --follow --json

Exit codes: 0 done; 1 failed; 2 wrong usage; 69 queue-manager does not answer; 77 no permission; 130 Ctrl-C, 143 \
SIGTERM.";

pub(super) const LOGS: &str = "\
Examples:
  streamforge queue logs abc123
  streamforge queue logs abc123 --part arango-candles --lines 20

Exit codes: 0 done; 1 failed, also if there is no log, or none any more; 2 wrong usage; 69 queue-manager does \
not answer; 77 no permission; 130 Ctrl-C, 143 SIGTERM.";
