# The few commands of this project. Each first makes sure of what the build needs.
#   make demo [ARGS="--symbol ETHUSDT --interval 1h"]   the main job, on this machine, without a network
#   make up [ARGS="--data ./arango"]                    a dev stack that stays, for workers in other terminals
#   make test                                           everything that has to hold before a change lands
#   VENDORED_OPENSSL=1                                  builds OpenSSL from source, where its headers can't be had
CARGO ?= cargo
FEATURES = $(if $(filter 1,$(VENDORED_OPENSSL)),--features vendored-openssl)

.PHONY: help demo up test needs

help:
	@sed -n 's/^#   //p' Makefile

needs:
	@ci/needs.sh

demo: needs
	@$(CARGO) run --release --locked $(FEATURES) -- demo $(ARGS)

up: needs
	@$(CARGO) run --release --locked $(FEATURES) -- up $(ARGS)

test: needs
	ci/test.sh
