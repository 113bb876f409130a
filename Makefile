# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
LBCTL := $(TARGET_DIR)/release/lbctl
# Built in a fraction of the time. `make test` builds it, too.
LBCTL_TO_TRY := $(TARGET_DIR)/debug/lbctl
BINARY = $(DESTDIR)$(PREFIX)/bin/lbctl
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
HEADER = $(DESTDIR)$(PREFIX)/include/l4lb/chain.h
CONFIG = $(DESTDIR)$(SYSCONFDIR)/l4lb/default.toml
MAN = $(DESTDIR)$(PREFIX)/share/man
SHARE = $(DESTDIR)$(PREFIX)/share/l4lb
BASH_COMPLETION = $(DESTDIR)$(PREFIX)/share/bash-completion/completions/lbctl
ZSH_COMPLETION = $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_lbctl
FISH_COMPLETION = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/lbctl.fish

C_FILES := $(wildcard bpf/*.c include/l4lb/*.h include/l4lb/*/*.h tests/bench/*.c tests/bench/*.h \
	tests/suite/fixtures/*.c examples/chain/*.c)
SCRIPTS := .ci/run .ci/setup .ci/tool packaging/stage packaging/image $(wildcard packaging/debian/*) tests/package/run $(wildcard tests/vm/run tests/vm/init tests/vm/round tests/vm/numa tests/vm/tunnel examples/*.sh)
CLANG_FORMAT := clang-format-19

PACKAGES := $(TARGET_DIR)/package
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | sed -n 1p)
# The same source makes the same packages.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
TAR = tar --create --gzip --sort=name --mtime="@$(SOURCE_DATE_EPOCH)" --owner=0 --group=0 --numeric-owner

# `lbctl version` says what it was built from.
build: export LB_COMMIT ?= $(shell git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null)

# Network namespaces and BPF need root.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The product at work, in network namespaces of its own (root)
	@.ci/setup build demo
	cargo build --locked
	@$(SUDO) env LBCTL='$(LBCTL_TO_TRY)' examples/demo.sh

lab: ## The same network with a prompt for each host, and eight lessons (root)
	@.ci/setup build demo
	cargo build --locked
	@$(SUDO) '$(LBCTL_TO_TRY)' lab

test: ## Every test, also the privileged ones (root)
	@$(if $(SUDO),echo 'make test needs root: sudo env "PATH=$$PATH" make test' >&2; exit 1)
	@.ci/setup build test
	cargo test --locked

test-vm: build ## Packet tests, commands, filters and checks on Debian's kernels 6.1 and 6.12, emulated
	@.ci/setup vm
	@tests/vm/run

bench: ## What packets and commands cost, beside a yardstick; ARGS=--help (root)
	@$(if $(SUDO),echo 'make bench needs root: sudo env "PATH=$$PATH" make bench' >&2; exit 1)
	@.ci/setup build test
	@cargo bench --locked --bench bench -- $(ARGS)

build: ## The release build of lbctl, stripped; what debuggers want is in lbctl.debug beside it
	@.ci/setup build
	cargo build --locked --release
	@if readelf --sections --wide '$(LBCTL)' | grep -F ' .debug_info ' >/dev/null; then \
		objcopy --only-keep-debug '$(LBCTL)' '$(LBCTL).debug' && \
		objcopy --strip-all --add-gnu-debuglink='$(LBCTL).debug' '$(LBCTL)' '$(LBCTL).stripped' && \
		mv '$(LBCTL).stripped' '$(LBCTL)'; \
	fi

check: ## Formatting, lints and documentation: Rust, C, shell
	@.ci/setup build check
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@$(MAKE) --no-print-directory check-features
	@$(MAKE) --no-print-directory deny check-msrv check-dashboard
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	$(CLANG_FORMAT) --dry-run -Werror $(C_FILES)
	shellcheck -x $(SCRIPTS)

check-features: ## The library with each feature alone, and with none
	@for features in '' capture metrics agent; do \
		echo "cargo clippy --lib --no-default-features --features '$$features'"; \
		cargo clippy --locked --quiet --lib --no-default-features --features "$$features" -- -D warnings || exit; \
	done
	@! cargo tree --locked --no-default-features --edges normal --prefix none | grep -E \
		'^(clap|ratatui|comfy-table|indicatif|prometheus|hyper|rustls|libloading|pcap-parser) ' || \
		{ echo 'these belong to features, but are built without any' >&2; exit 1; }

deny: ## Licences, versions and sources of all crates (deny.toml)
	@if deny=$$(.ci/tool cargo-deny); then \
		"$$deny" --locked --log-level error check --hide-inclusion-graph licenses bans sources; \
	else \
		echo 'skipped: licences, versions and sources of crates' >&2; \
	fi

check-dashboard: ## The Grafana dashboard, against the types that Grafana publishes
	@if types=$$(.ci/tool grafana-foundation-sdk); then \
		PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$$types" tests/grafana/check docs/grafana/*.json; \
	else \
		echo 'skipped: the dashboard against the types of Grafana' >&2; \
	fi

# The build formats skeletons: that toolchain need not have rustfmt.
check-msrv: ## With the oldest Rust that Cargo.toml promises, if rustup has it
	@version=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	if rustup run "$$version" cargo --version >/dev/null 2>&1; then \
		echo "cargo +$$version check"; \
		mkdir -p '$(TARGET_DIR)/tools/rustfmt' && \
		ln -sf "$$(rustup which rustfmt)" '$(TARGET_DIR)/tools/rustfmt/' && \
		PATH="$(abspath $(TARGET_DIR))/tools/rustfmt:$$PATH" cargo "+$$version" check --locked --quiet; \
	else \
		echo "skipped: Rust $$version is missing: rustup toolchain install $$version --profile minimal" >&2; \
	fi

doc: ## The reference of the library, in target/doc/l4lb
	cargo doc --locked --no-deps --lib

format: ## Format Rust and C
	cargo fmt
	$(CLANG_FORMAT) -i $(C_FILES)

setup: ## Install the Debian or Ubuntu packages that all of this needs, if they are missing
	@.ci/setup

man: ## The man pages, in target/man, from the release build of lbctl
	@test -x '$(LBCTL)' || { echo '$(LBCTL) is missing: make build' >&2; exit 1; }
	rm -rf '$(TARGET_DIR)/man'
	'$(LBCTL)' man '$(TARGET_DIR)/man'

completions: ## Completions for bash, zsh and fish, in target/completions
	@test -x '$(LBCTL)' || { echo '$(LBCTL) is missing: make build' >&2; exit 1; }
	mkdir -p '$(TARGET_DIR)/completions'
	'$(LBCTL)' completions bash >'$(TARGET_DIR)/completions/lbctl.bash'
	'$(LBCTL)' completions zsh >'$(TARGET_DIR)/completions/_lbctl'
	'$(LBCTL)' completions fish >'$(TARGET_DIR)/completions/lbctl.fish'

install: man completions ## Install lbctl, chain.h, the schema of the configuration, man pages, completions, units for systemd and an example configuration (PREFIX, DESTDIR)
	@test -x '$(LBCTL)' || { echo '$(LBCTL) is missing: make build' >&2; exit 1; }
	install -D -m 755 '$(LBCTL)' '$(BINARY)'
	install -D -m 644 include/l4lb/chain.h '$(HEADER)'
	install -d '$(UNITS)'
	for unit in $(notdir $(wildcard examples/systemd/*)); do \
		sed 's|/usr/local/bin|$(PREFIX)/bin|; s|/etc/l4lb|$(SYSCONFDIR)/l4lb|' \
			"examples/systemd/$$unit" >"$(UNITS)/$$unit" || exit; \
	done
	install -d '$(SHARE)' '$(MAN)/man1' '$(MAN)/man5'
	install -m 644 docs/config.schema.json '$(SHARE)'
	install -m 644 '$(TARGET_DIR)'/man/*.1 '$(MAN)/man1'
	install -m 644 '$(TARGET_DIR)'/man/*.5 '$(MAN)/man5'
	install -D -m 644 '$(TARGET_DIR)/completions/lbctl.bash' '$(BASH_COMPLETION)'
	install -D -m 644 '$(TARGET_DIR)/completions/_lbctl' '$(ZSH_COMPLETION)'
	install -D -m 644 '$(TARGET_DIR)/completions/lbctl.fish' '$(FISH_COMPLETION)'
	test -e '$(CONFIG)' || { install -d "$$(dirname '$(CONFIG)')" && \
		sed 's|/usr/share/l4lb|$(PREFIX)/share/l4lb|' examples/l4lb.toml >'$(CONFIG)'; }

deb: build ## A package for Debian and Ubuntu, in target/package
	@.ci/setup package
	@packaging/stage
	@"$$(.ci/tool cargo-deb)" --no-build --no-strip --locked --quiet --output '$(PACKAGES)/'
	@ls '$(PACKAGES)'/*.deb

rpm: build ## A package for Fedora, RHEL, SUSE, in target/package
	@.ci/setup package
	@packaging/stage
	@"$$(.ci/tool cargo-generate-rpm)" --output '$(PACKAGES)/' --auto-req builtin --source-date "$$SOURCE_DATE_EPOCH"
	@ls '$(PACKAGES)'/*.rpm

tarball: build ## What packages install, as an archive to unpack at /, and one of the debug information
	@packaging/stage
	@$(TAR) --directory '$(PACKAGES)/root' --transform 's|^\.|l4lb-$(VERSION)|' --file '$(PACKAGES)/l4lb-$(VERSION).tar.gz' .
	@$(TAR) --directory '$(dir $(LBCTL))' --file '$(PACKAGES)/l4lb-$(VERSION)-debug.tar.gz' lbctl.debug
	@ls '$(PACKAGES)'/*.tar.gz

image: build ## An image FROM scratch, for 'docker load', in target/package
	@.ci/setup image
	@mkdir -p '$(PACKAGES)'
	@packaging/image

test-package: deb image ## Installs, upgrades, removes and purges the package in a Debian 12 of its own; runs the image (root)
	@$(if $(SUDO),echo 'make test-package needs root: sudo env "PATH=$$PATH" make test-package' >&2; exit 1)
	@.ci/setup test-package
	@tests/package/run

test-package-here: ## The package of LBCTL as it is, in a view of this Debian or Ubuntu whose changes are thrown away (root)
	@$(if $(SUDO),echo 'make test-package-here needs root: sudo env "PATH=$$PATH" make test-package-here' >&2; exit 1)
	@.ci/setup package test-package
	@rm -rf '$(PACKAGES)/here' && mkdir -p '$(PACKAGES)/here'
	@objcopy --strip-all '$(LBCTL)' '$(PACKAGES)/here/lbctl'
	@LBCTL='$(PACKAGES)/here/lbctl' packaging/stage
	@"$$(.ci/tool cargo-deb)" --no-build --no-strip --fast --locked --quiet --output '$(PACKAGES)/here/'
	@tests/package/run --here

uninstall: ## Remove what install has installed, but for the configuration
	rm -f '$(MAN)'/man1/lbctl.1 '$(MAN)'/man1/lbctl-*.1 '$(MAN)'/man5/l4lb.toml.5
	rm -f '$(BASH_COMPLETION)' '$(ZSH_COMPLETION)' '$(FISH_COMPLETION)'
	rm -f '$(SHARE)/config.schema.json'
	-rmdir --ignore-fail-on-non-empty '$(SHARE)'
	rm -f '$(BINARY)' '$(HEADER)' $(patsubst examples/systemd/%,'$(UNITS)/%',$(wildcard examples/systemd/*))

.PHONY: help demo lab test test-vm bench build check check-features check-msrv check-dashboard deny deb rpm tarball image test-package test-package-here doc format setup man completions install uninstall
