# The two commands of README.md are `make demo` and `make test`. A comment behind ## is what `make help` says.

BIN := bin/isofs
BASES := build/bases
# What bakes need root for they do by sudo, if need be.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# What is made later may need what is made before: boot-debian boots what base-debian baked.
.NOTPARALLEL:
.PHONY: help demo check test setup build lint fuzz boot-matrix bench bench-peers base-tiny base-debian base-fedora boot-debian boot-table boot-odd publish-debian documents thorough fresh release clean

help: ## say what there is
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | awk -F'\t' '{ printf "  %-16s %s\n", $$1, $$2 }'

demo: ## set up, bake the tiny base, mount, serve on DEMO_LISTEN (127.0.0.1:8080)
	scripts/setup serve demo bake
	scripts/demo

test: ## set up, then pass all tests: less than a quarter of an hour
	scripts/setup serve bake test browser
	scripts/test

check: ## lint and the unit tests that need nothing of the machine: for every day
	scripts/check

setup: ## install what the tests and the demo need
	scripts/setup serve bake test browser

build: ## bin/isofs
	go build -o $(BIN) ./cmd/isofs

lint: ## golangci-lint, shellcheck, actionlint; the words of documents and comments (vale)
	scripts/setup lint prose
	scripts/lint
	scripts/prose

clean: ## forget what was built and cached in the tree
	rm -rf bin build

# What takes long. Each is a target of its own, and `make test` runs none of them.

fuzz: ## every fuzz target for FUZZTIME (30s) each
	scripts/fuzz

bench: ## the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-peers: ## isofs beside its peers, in one run; BENCHFLAGS=-quick for a look
	scripts/setup serve bake bench
	go run ./bench $(BENCHFLAGS)

boot-matrix: ## boot the tiny base every way, Secure Boot and real machines' buses included: some ten minutes
	scripts/setup bake test
	CI=true go test -count=1 -timeout 60m -v -run "TestMatrix|TestFedora$$" ./bake -bake.matrix -bake.work "$(CURDIR)/build/bake"

# base-FLAVOR bakes into BASES and hands BAKEFLAGS on; boot-FLAVOR boots the newest one there.
# scripts/release-base FLAVOR, which publishes, goes by base-FLAVOR alone.

base-tiny: build ## bake the base of the demo to BASES (build/bases); BAKEFLAGS are those of isofs bake
	scripts/setup bake
	$(BIN) bake tiny -o $(BASES) --work build/bake $(BAKEFLAGS)

base-debian: build ## bake the base that people boot, as root, to BASES (build/bases)
	scripts/setup bake debian
	$(SUDO) $(BIN) bake debian -o $(BASES) --work build/debian $(BAKEFLAGS)

base-fedora: build ## the same of a Fedora Live ISO: LIVE_ISO=file CHECKSUM=file, which Fedora has beside it
	scripts/setup bake fedora
	$(SUDO) $(BIN) bake fedora --live-iso "$(LIVE_ISO)" --checksum "$(CHECKSUM)" -o $(BASES) --work build/fedora $(BAKEFLAGS)

# The newest debian base.
newest = "$$(ls -td $(BASES)/debian/*/* | head -n 1)"

.PHONY: has-debian
has-debian:
	@ls -d $(BASES)/debian/*/* >/dev/null 2>&1 || { echo 'make: there is no debian base in $(BASES); make base-debian bakes one' >&2; exit 1; }

boot-debian: has-debian build ## boot the newest of them in an emulator until its browser has painted
	scripts/setup boot
	$(BIN) boot-test $(newest)/base.iso --expect-serial '^ISOFS-SHOWN' --timeout 9m --memory 3072 --screenshots build/boot-debian

boot-table: has-debian build ## boot it BOOTS (20) times as mount and nginx serve it, USB and CD, UEFI, Secure Boot and BIOS, and print the table: an hour
	scripts/setup serve boot
	scripts/boot-table $(newest) $(or $(BOOTS),20)

boot-odd: has-debian build ## boot sticks that are damaged, empty, without a piece, or have a large one
	scripts/setup serve boot sticks
	scripts/boot-odd $(newest)

thorough: ## the tests of the real binary with the race detector in it, and those that make test leaves out
	scripts/setup serve bake test browser s3
	CI=true go test -vet=off -count=1 -timeout 40m -v ./integration -thorough

fresh: ## make demo and make test on fresh machines of Debian 12 and 13, with Go, git, gcc and make only; FRESH=trixie for one
	scripts/setup fresh
	FRESH="$(FRESH)" FRESH_COMMANDS="$(FRESH_COMMANDS)" scripts/fresh

documents: ## run what README, docs/ and prompt/README.md tell people to type, the boots too
	scripts/setup serve bake test
	CI=true go test -count=1 -timeout 30m -v -run TestDocuments ./integration -documents.all

publish-debian: ## bake the base, boot it with a test piece, publish it to ISOFS_TO; RELEASEFLAGS=--dry-run says how
	scripts/release-base debian $(RELEASEFLAGS)

# What `make release` runs, in this order. A new long target, such as another base or more boots, is added here.
RELEASE := test
RELEASE += lint
RELEASE += thorough
RELEASE += boot-matrix
RELEASE += base-debian
RELEASE += boot-debian
RELEASE += boot-odd
RELEASE += boot-table
RELEASE += bench-peers
RELEASE += fuzz
RELEASE += documents
RELEASE += fresh

release: ## all of the above before a release: some hours; RELEASE='test fuzz' for a part; ends with a summary
	BENCHFLAGS="$(or $(BENCHFLAGS),-quick)" scripts/release $(RELEASE)
