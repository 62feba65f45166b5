# One image per daemon, of one build. The target is the daemon's name:
#   docker build --target indexer -t rsky-indexer .
# BINARIES=<image> takes /binaries from an image instead of compiling (cargo xtask deploy-check does).
ARG BINARIES=build

FROM rust:1.94-slim-bookworm AS build
WORKDIR /build
# Dependencies alone, with empty sources in the place of ours: this layer lasts until a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY rsky-common/Cargo.toml rsky-common/
COPY rsky-ingester/Cargo.toml rsky-ingester/
COPY rsky-backfiller/Cargo.toml rsky-backfiller/
COPY rsky-indexer/Cargo.toml rsky-indexer/
COPY rsky-testnet/Cargo.toml rsky-testnet/
COPY rsky-fuzz/Cargo.toml rsky-fuzz/
COPY xtask/Cargo.toml xtask/
RUN for member in rsky-common rsky-ingester rsky-backfiller rsky-indexer rsky-testnet rsky-fuzz xtask; do \
        mkdir -p "$member/src" && echo 'fn main() {}' > "$member/src/main.rs" && : > "$member/src/lib.rs" || exit 1; \
    done \
    && cargo build --release --locked --package rsky-ingester --package rsky-backfiller --package rsky-indexer
COPY rsky-common rsky-common
COPY rsky-ingester rsky-ingester
COPY rsky-backfiller rsky-backfiller
COPY rsky-indexer rsky-indexer
# The empty sources are newer than ours.
RUN find rsky-* -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bins \
        --package rsky-ingester --package rsky-backfiller --package rsky-indexer \
    && mkdir -p /binaries \
    && cp target/release/ingester target/release/backfiller target/release/indexer /binaries/ \
    && cp /etc/ssl/certs/ca-certificates.crt /binaries/

# The simulated network, for those who ask for it (BINARIES=build-testnet).
FROM build AS build-testnet
COPY rsky-testnet rsky-testnet
RUN find rsky-testnet -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bins --package rsky-testnet \
    && cp target/release/rsky-testnet /binaries/

FROM ${BINARIES} AS binaries

FROM debian:bookworm-slim AS runtime
# Without root certificates every TLS client fails.
COPY --from=binaries /binaries/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin rsky \
    && install -d -o rsky -g rsky -m 0700 /var/cache/rsky
# The pages are for others than the container itself, and where they are seen is decided outside.
ENV METRICS_HOST=0.0.0.0
USER 10001:10001

FROM runtime AS ingester
COPY --from=binaries /binaries/ingester /usr/local/bin/
ENV METRICS_PORT=4000
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["ingester", "healthcheck"]
ENTRYPOINT ["ingester"]

FROM runtime AS backfiller
COPY --from=binaries /binaries/backfiller /usr/local/bin/
# A volume: a repository that is larger than its memory is kept here while it is read.
ENV METRICS_PORT=4010 BACKFILLER_TEMP_DIR=/var/cache/rsky
VOLUME /var/cache/rsky
EXPOSE 4010
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["backfiller", "healthcheck"]
ENTRYPOINT ["backfiller"]

FROM runtime AS indexer
COPY --from=binaries /binaries/indexer /usr/local/bin/
ENV METRICS_PORT=4020
EXPOSE 4020
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["indexer", "healthcheck"]
ENTRYPOINT ["indexer"]

# Relay, hosts, directory and labeler of a made-up network, in one process.
FROM runtime AS testnet
COPY --from=binaries /binaries/rsky-testnet /usr/local/bin/
EXPOSE 2583
ENTRYPOINT ["rsky-testnet"]
