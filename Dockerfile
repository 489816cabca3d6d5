# The bridge alone: no shell, no package manager, nobody but an unprivileged user.
#
#   docker build --tag jetlinks-bridge:0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Build again from the same commit with the same base and SOURCE_DATE_EPOCH, and the binary is the same.
ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-slim-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src

COPY .ci/packages .ci/packages
RUN .ci/packages build

# Names of folders of this machine do not belong into the binary; names of functions in a backtrace do.
ENV CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    RUSTFLAGS="--remap-path-prefix=/src=/jetlinks-bridge --remap-path-prefix=/usr/local/cargo=/cargo"
COPY . .
# Beside the binary: its libraries, authorities of TLS, how to look up hosts, and a user.
RUN cargo build --release --locked --bin jetlinks-bridge \
 && .ci/image-root target/release/jetlinks-bridge /root-of-image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="jetlinks-bridge" \
      org.opencontainers.image.description="Bridges devices that speak the JetLinks official protocol to Kafka and NATS." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /root-of-image /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
# MQTT, MQTT over TLS, WebSocket, WebSocket over TLS, CoAP, CoAP over DTLS, probes and metrics.
EXPOSE 1883/tcp 8883/tcp 8083/tcp 8084/tcp 5683/udp 5684/udp 9090/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/jetlinks-bridge", "health"]
ENTRYPOINT ["/usr/bin/jetlinks-bridge"]
CMD ["--help"]
