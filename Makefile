# `make help` lists the targets. Everything that is installed goes through .ci/deps.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

# gocv's own tags leave out what needs OpenCV's contrib modules. Its pkg-config way names every
# OpenCV library, but the linker keeps only the four in use (readelf -d: videoio, imgcodecs,
# imgproc, core; the same binary as with -tags customenv), so the machine's own opencv4.pc
# decides where headers are. Where there is none, the four are named here.
TAGS := gocv_specific_modules,gocv_videoio
ifneq ($(shell pkg-config --exists opencv4 2>/dev/null && echo yes),yes)
ifneq ($(wildcard /usr/include/opencv4/opencv2/videoio.hpp),)
TAGS := $(TAGS),customenv
export CGO_CPPFLAGS := -I/usr/include/opencv4
export CGO_CXXFLAGS := -O2 -g --std=c++11 -DNDEBUG
export CGO_LDFLAGS := -lopencv_videoio -lopencv_imgcodecs -lopencv_imgproc -lopencv_core
endif
endif

VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
BUILD := -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)"
TIMEOUT ?= 20m
FUZZTIME ?= 20s
GODIRS = $(wildcard appliance broker uplink vision web)

# Tests run in their own directories, so these are absolute. The model is not installed by .ci/deps.
export OUTSTATION_TEST_MODEL := $(or $(OUTSTATION_TEST_MODEL),$(wildcard $(CURDIR)/models/yolox_nano.onnx))
export OUTSTATION_TEST_VIDEO := $(or $(OUTSTATION_TEST_VIDEO),$(CURDIR)/media/vtest.avi)
export OUTSTATION_TEST_ORT := $(or $(OUTSTATION_TEST_ORT),$(CURDIR)/.deps/onnxruntime/libonnxruntime.so.1)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/outstation
	@.ci/deps build >&2
	@go build $(BUILD) -tags "$(TAGS)" -o bin/outstation ./appliance
	@echo "build: bin/outstation $(VERSION)" >&2

.PHONY: build-novision
build-novision: ## build bin/outstation-novision, for a gateway with no camera (no cgo)
	@CGO_ENABLED=0 go build $(BUILD) -tags novision -o bin/outstation-novision ./appliance
	@echo "build: bin/outstation-novision $(VERSION)"

.PHONY: run
run: build ## install what is missing, build, and run the demo
	@.ci/deps onnxruntime || echo "run: going on without ONNX Runtime: no detector"
	@exec bin/outstation demo run

.PHONY: deps-test
deps-test:
	@.ci/deps build onnxruntime media test

.PHONY: test
test: deps-test fmt vet lint imports ## install what is missing and run every check (SKIP=fail: no test may skip)
	@echo "test: Mats, goroutines and files over reconnects"
	@SKIP="$(SKIP)" .ci/gotest -tags "$(TAGS),matprofile" -run '^TestNoMat' -timeout $(TIMEOUT) ./vision/capture
	@echo "test: go test -race"
	@SKIP="$(SKIP)" .ci/gotest -race -tags "$(TAGS)" -timeout $(TIMEOUT) ./...

.PHONY: test-fast
test-fast: deps-test ## the tests alone, without the race detector
	@SKIP="$(SKIP)" .ci/gotest -tags "$(TAGS)" -timeout $(TIMEOUT) ./...

.PHONY: fmt
fmt: ## check the formatting
	@files=$$(gofmt -l $(GODIRS)); [ -z "$$files" ] || { echo "fmt: gofmt -w these: $$files"; exit 1; }
	@echo "fmt: ready"

.PHONY: vet
vet: build-novision ## go vet, of both builds
	@go vet -tags "$(TAGS)" ./...
	@CGO_ENABLED=0 go vet -tags novision ./...
	@echo "vet: ready"

.PHONY: lint
lint: ## golangci-lint
	@.ci/deps build lint
	@.deps/bin/golangci-lint run --allow-parallel-runners --build-tags "$(TAGS)"

.PHONY: imports
imports: ## check who imports whom
	@TAGS="$(TAGS)" .ci/imports

.PHONY: bench
bench: build ## one JSON object a line; ONLY=frame, accuracy, cameras, flat, uplink, drain, memory, broker, sessions, logins or gpu for one
	@.ci/deps onnxruntime media test >&2
	@go run -tags "$(TAGS)" ./appliance/bench -only "$(ONLY)"

.PHONY: torture
torture: build ## kill the appliance CYCLES=200 times under load; SEED=n repeats a run
	@.ci/deps test >&2
	@go run -tags "$(TAGS)" ./appliance/torture -cycles $(or $(CYCLES),200) -seed $(or $(SEED),0)

# The test binary of the appliance can turn the sync off, which the program cannot.
.PHONY: powercut
powercut: build-novision ## kill an emulated machine CYCLES=20 times under load; then without the sync, which must lose
	@.ci/deps test powercut >&2
	@CGO_ENABLED=0 go test -c -tags novision -o bin/outstation-unsynced ./appliance
	@go run -tags "$(TAGS)" ./appliance/torture -powercut -cycles $(or $(CYCLES),20) -seed $(or $(SEED),0) \
		-binary bin/outstation-novision -unsynced-binary bin/outstation-unsynced

.PHONY: soak-cameras
soak-cameras: ## fail eight cameras and let them come back for MINUTES=60; prints one JSON object
	@.ci/deps build test >&2
	@MINUTES=$(or $(MINUTES),60) go test -count=1 -tags "$(TAGS),matprofile,soak" -run '^TestSoak$$' -timeout 0 -v ./vision/capture

.PHONY: conformance
conformance: ## run the public MQTT suites against the broker (asks the network); SERVER=/usr/sbin/mosquitto for that one
	@.ci/deps conformance >&2
	@go run ./appliance/conformance -paho .deps/conformance/paho -testmqtt .deps/conformance/bin/testmqtt -mosquitto "$(SERVER)"

.PHONY: train
train: ## train the line's detector anew (45 minutes on two cores), and say how good it is
	@.ci/deps build onnxruntime train
	@go build -o bin/feed ./vision/sim/train/feed
	@/usr/bin/python3 vision/sim/train/train.py bin/feed bin/line.onnx $(if $(BATCHES),--batches $(BATCHES))
	@cp vision/sim/detector/line.yaml bin/line.yaml
	@$(MAKE) build
	@bin/outstation sim eval --model bin/line.onnx --seed 1
	@echo "train: bin/line.onnx; to build it in, copy it to vision/sim/detector/line.onnx"

.PHONY: heads
heads: ## export the small models that the decoders are tested with anew (python3-torch)
	@.ci/deps train
	@/usr/bin/python3 vision/onnx/testdata/heads/export.py

.PHONY: fuzz
fuzz: ## run every fuzz test for FUZZTIME (20s)
	@TAGS="$(TAGS)" .ci/fuzz $(FUZZTIME)

.PHONY: vuln
vuln: ## look for known vulnerabilities (asks the network)
	@.ci/deps build vuln
	@.deps/bin/govulncheck -tags "$(TAGS)" ./...

.PHONY: picture
picture: build ## take web/page.png from the running demo
	@.ci/deps onnxruntime chromium
	@.ci/picture

.PHONY: clean
clean: ## remove what was built and run; .deps and media stay
	rm -rf bin .run coverage*
