//! What `debug-producer -h` and `--help` say below the flags.

pub(super) const HELP: &str = "\
Examples:
  debug-producer --queue-id wf-try --command ping --expect-pong
  debug-producer --queue-id wf-try --command stop --expect-interrupted
  debug-producer --queue-id all --follow

Exit codes: 0 what was expected came; 1 it did not; 2 wrong usage; 78 bad configuration; 130 Ctrl-C, 143 \
SIGTERM.

--help says more, and lists the environment variables.";

pub(super) const LONG_HELP: &str = "\
Examples:
  debug-producer --queue-id wf-try --command ping --expect-pong
  debug-producer --queue-id wf-try --command ping --expect-pong \\
      --repeat 1000 --interval 0.01
  debug-producer --queue-id '*' --command ping --expect-pong \\
      --expect-count 2 --json
  debug-producer --queue-id wf-try --command stop --drain --expect-interrupted
  debug-producer --queue-id wf-try --command simulate-loading --expect-loading
  debug-producer --queue-id wf-try --command fail-after --seconds 2 \\
      --expect-error
  debug-producer --queue-id wf-try --target arango-candles --follow

Exit codes:
  0    what was expected came; without an --expect flag, the broker took the
       command; with --follow, --timeout is over
  1    it did not come; the broker is away or refuses; a topic is not there
  2    wrong usage
  78   bad configuration
  130  Ctrl-C, also with --follow
  143  SIGTERM";

/// The variables, as `--help` has them.
pub const VARIABLES_HELP: &str = "\
The connection is configured by environment variables:
  KAFKA_BOOTSTRAP_SERVERS    the brokers to ask first: host:port, several with
                             commas (required)
  KAFKA_USER                 SASL user; given, the connection is SASL
                             SCRAM-SHA-512 over TLS
  KAFKA_PASSWORD             its password
  KAFKA_CA_PATH              PEM file of the CAs that sign the brokers
                             [the system's]
  KAFKA_SECURITY_PROTOCOL    PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
                             [derived]
  KAFKA_SASL_MECHANISM       PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
                             [SCRAM-SHA-512]
  KAFKA_FETCH_WAIT_MAX_MS    how long a broker may hold a fetch that has nothing
                             to give [500]
  QUEUE_CONTROL_TOPIC        where commands go [queue-control]
  QUEUE_EVENTS_TOPIC         where events come from [queue-events]
  LOG_LEVEL                  how much of the Kafka client's own log goes to
                             stderr [off]
  KAFKA_SESSION_TIMEOUT_MS, KAFKA_OFFSETS_FOR_TIMES, KAFKA_TOPIC_ADMIN
                             read and checked as by the workers; nothing here
                             depends on them";
