# The two commands of README.md are `make demo` and `make test`.

BIN := bin/isofs

.PHONY: demo test setup build lint fuzz boot-matrix bench bench-peers base-debian base-fedora boot-debian boot-table boot-odd clean

demo: ## set up, bake the tiny base, mount, serve on DEMO_LISTEN (127.0.0.1:8080)
	scripts/setup serve bake
	scripts/demo

test: ## set up, then pass all tests
	scripts/setup serve bake test browser
	scripts/test

setup: ## install what the tests and the demo need
	scripts/setup serve bake test browser

build: ## bin/isofs
	go build -o $(BIN) ./cmd/isofs

lint: ## vet, golangci-lint, shellcheck
	scripts/lint

fuzz: ## every fuzz target for FUZZTIME (30s) each
	scripts/fuzz

boot-matrix: ## boot the tiny base every way, Secure Boot and real machines' buses included: some ten minutes
	scripts/setup bake test
	CI=true go test -count=1 -timeout 60m -v -run TestMatrix ./bake -bake.matrix -bake.work "$(CURDIR)/build/bake"

bench: ## the Go benchmarks
	go test -run '^$$' -bench . -benchmem ./...

bench-peers: ## isofs beside its peers, in one run; BENCHFLAGS=-quick for a look
	scripts/setup serve bake bench
	go run ./bench $(BENCHFLAGS)

BASES := build/bases

base-debian: build ## bake the base that people boot, as root, to BASES (build/bases)
	scripts/setup bake debian
	$(BIN) bake debian -o $(BASES) --work build/debian

base-fedora: build ## the same of a Fedora Live ISO: LIVE_ISO=file CHECKSUM=file, which Fedora has beside it
	scripts/setup bake fedora
	$(BIN) bake fedora --live-iso "$(LIVE_ISO)" --checksum "$(CHECKSUM)" -o $(BASES) --work build/fedora

boot-debian: build ## boot the newest of them in an emulator until its browser has painted
	scripts/setup test
	$(BIN) boot-test "$$(ls -t $(BASES)/debian/*/*/base.iso | head -n 1)" --expect-serial '^ISOFS-SHOWN' --timeout 9m --memory 3072 --screenshots build/boot-debian

boot-table: build ## boot it BOOTS (20) times as mount and nginx serve it, USB and CD, UEFI, Secure Boot and BIOS, and print the table: an hour
	scripts/setup serve test
	scripts/boot-table "$$(ls -td $(BASES)/debian/*/* | head -n 1)" $(or $(BOOTS),20)

boot-odd: build ## boot sticks that are damaged, empty, without a piece, or have a large one
	scripts/setup serve test
	scripts/boot-odd "$$(ls -td $(BASES)/debian/*/* | head -n 1)"

clean: ## forget what was built and cached in the tree
	rm -rf bin build
