# The front door. Prerequisites: git, make and a current Rust toolchain; the rest installs itself
# on Debian 12, as root or with sudo.

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: help demo test serve bench examples soak check toolchain release

help:
	@echo 'make demo      build, start a server, run the labs through the AWS CLI, stop it'
	@echo 'make test      the whole test suite'
	@echo 'make serve     build and run the server with its defaults'
	@echo 'make bench     the benchmarks; JSON in target/bench'
	@echo 'make soak      the endurance run: load, kills, and then nothing left; JSON in target/bench'
	@echo 'make examples  ready-made zips in target/examples'
	@echo 'make check     formatter, lints, dependency rules, documentation'

toolchain:
	@tools/toolchain

release: toolchain
	@tools/setup build
	@tools/bootstraps
	LAMBFOLD_BOOTSTRAPS=$(CURDIR)/target/bootstraps cargo build --release --locked -p lambfold-cli

demo: release
	@tools/setup demo
	@tools/demo target/release/lambfold

test: toolchain
	@tools/setup test
	@tools/test

serve: release
	target/release/lambfold serve

bench: release
	@tools/setup bench
	@tools/bench

examples: release
	@tools/setup demo
	@tools/examples target/release/lambfold target/examples

soak: release
	cargo build --release --locked -p lambfold-benches --bin soak
	target/release/soak

check: toolchain
	@tools/setup check
	@tools/check
