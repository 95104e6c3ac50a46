# SPDX-License-Identifier: Apache-2.0
#
# The front door; the build itself is meson's. Every target works under sudo and may be repeated.

BUILD ?= build
FUZZ_SECONDS ?= 60
BENCH ?=
PREFIX ?=

MAKEFLAGS += --no-print-directory
variants := $(BUILD) build-asan build-tsan build-release build-fuzz
# Where sources are found by listing: a file that comes or goes here changes the directory, and meson looks again.
listed := $(wildcard tests/unit/ tests/fuzz/ tests/plugins/ tests/system/programs/)

.NOTPARALLEL:
.PHONY: all setup setup-check demo test test-asan test-tsan stress bench fuzz check format install deb test-packages clean help

all: $(BUILD)/build.ninja ## build stasis, its plugins and its tests in build/ (the default)
	@ninja --quiet -C $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## install what building and testing need (Debian; as root)
	@scripts/setup

setup-check:
	@scripts/setup --check

demo: setup all ## show what it does
	@STASIS=$(CURDIR)/$(BUILD)/stasis scripts/demo

test: setup all ## all unit and system tests
	@scripts/run-tests --build $(BUILD)

test-asan: setup-check build-asan/build.ninja ## the same with AddressSanitizer and UBSan
	@ninja --quiet -C build-asan
	@scripts/run-tests --asan build-asan

test-tsan: setup-check build-tsan/build.ninja ## the unit tests with ThreadSanitizer
	@ninja --quiet -C build-tsan
	@scripts/run-tests --tsan build-tsan

stress: setup all ## all tests, with the long ones
	@scripts/run-tests --build $(BUILD) --stress

bench: setup build-release/build.ninja ## measure a release build (BENCH=data: the table of docs/performance.md)
	@ninja --quiet -C build-release
	@STASIS=$(CURDIR)/build-release/stasis STASIS_BUILD=$(CURDIR)/build-release tests/bench/run $(BENCH)

fuzz: setup-check build-fuzz/build.ninja ## each fuzz target for FUZZ_SECONDS (60)
	@ninja --quiet -C build-fuzz
	@scripts/run-fuzz build-fuzz $(FUZZ_SECONDS)

check: setup-check ## static checks: warnings, clang-format, clang-tidy, analyzer, shellcheck, style
	@scripts/check

format: ## reformat all C files
	@scripts/check --format

install: all ## install below PREFIX (/usr/local) and DESTDIR
	@test -z "$(PREFIX)" || { scripts/configure $(BUILD) -Dprefix=$(PREFIX) && ninja --quiet -C $(BUILD); }
	@meson install -C $(BUILD) --no-rebuild --quiet

deb: setup ## build the Debian packages in build/deb/
	@scripts/make-deb $(BUILD)/deb

test-packages: setup ## install, use and remove the Debian packages in a clean Debian
	@tests/packages/run

clean: ## remove all build directories
	@rm -rf $(variants) build-check-gcc build-check-clang

build-asan/build.ninja: options := -Db_sanitize=address,undefined
build-tsan/build.ninja: options := -Db_sanitize=thread
build-release/build.ninja: options := --buildtype=release
build-fuzz/build.ninja: options := -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
build-fuzz/build.ninja: export CC := clang

$(variants:=/build.ninja): meson.build meson_options.txt $(listed)
	@scripts/configure $(@D) $(options)
