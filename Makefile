# The few commands of this project. Each first makes sure of what the build needs.
#   make demo [ARGS="--symbol ETHUSDT --interval 1h"]   the main job, on this machine, without a network
#   make up [ARGS="--data ./arango"]                    a dev stack that stays, for workers in other terminals
#   make up KAFKA=apache                                the same on an Apache Kafka with TLS, users and rights
#   make test                                           everything that has to hold before a change lands
#   VENDORED_OPENSSL=1                                  builds OpenSSL from source, where its headers can't be had
CARGO ?= cargo
KAFKA_DIR ?= $(or $(CARGO_TARGET_DIR),target)/kafka-up
FEATURES = $(if $(filter 1,$(VENDORED_OPENSSL)),--features vendored-openssl)

.PHONY: help demo up test needs

help:
	@sed -n 's/^#   //p' Makefile

needs:
	@ci/needs.sh

demo: needs
	@$(CARGO) run --release --locked $(FEATURES) -- demo $(ARGS)

# What is built: streamforge, which people type, and beside it queue-manager, which `up` starts.
BIN = $(or $(CARGO_TARGET_DIR),target)/release/streamforge
UP_FEATURES = $(if $(filter 1,$(VENDORED_OPENSSL)),--features streamforge/vendored-openssl)

# The broker ends with the process that the shell becomes, which is the stack.
up: needs
ifneq ($(filter-out apache,$(KAFKA)),)
	$(error KAFKA is apache or nothing, not '$(KAFKA)')
endif
	@$(CARGO) build --release --locked -p streamforge -p queue-manager $(UP_FEATURES)
ifeq ($(KAFKA),apache)
	@ci/kafka.sh start --dir $(KAFKA_DIR) --while $$$$ && exec $(BIN) up --kafka $(KAFKA_DIR) $(ARGS)
else
	@exec $(BIN) up $(ARGS)
endif

test: needs
	ci/test.sh
