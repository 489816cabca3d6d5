# The bridge alone: no shell, no package manager, nobody but an unprivileged user. For amd64 and arm64.
#
#   docker build --tag jetlinks-bridge:0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag jetlinks-bridge:0.1.0 .
#
# Each architecture is compiled by the machine that builds, and none is emulated. Build again from the same commit with
# the same base and SOURCE_DATE_EPOCH, and the binary is the same.
ARG RUST_VERSION=1.95
FROM --platform=${BUILDPLATFORM} rust:${RUST_VERSION}-slim-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
# amd64 or arm64, set by whatever builds the image.
ARG TARGETARCH

COPY .ci/packages .ci/packages
RUN .ci/packages build "${TARGETARCH}"

COPY . .
# Beside the binary: its libraries, authorities of TLS, how to look up hosts, and a user.
RUN .ci/release "${TARGETARCH}" /out && .ci/image-root "/out/${TARGETARCH}" /root-of-image

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
# When it was made (RFC 3339), where its sources are, and its text in Markdown: what registries show of it.
ARG CREATED=
ARG SOURCE=
ARG README=
LABEL org.opencontainers.image.title="jetlinks-bridge" \
      org.opencontainers.image.description="Bridges devices that speak the JetLinks official protocol to Kafka and NATS." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      io.artifacthub.package.readme-url="${README}" \
      io.artifacthub.package.license="Apache-2.0" \
      io.artifacthub.package.keywords="iot,mqtt,coap,kafka,nats,jetlinks"
COPY --from=build /root-of-image /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
# MQTT, MQTT over TLS, WebSocket, WebSocket over TLS, CoAP, CoAP over DTLS, probes and metrics.
EXPOSE 1883/tcp 8883/tcp 8083/tcp 8084/tcp 5683/udp 5684/udp 9090/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/jetlinks-bridge", "health"]
ENTRYPOINT ["/usr/bin/jetlinks-bridge"]
CMD ["--help"]
