# Stand-ins for the official images, of Debian's packages. Only `cargo xtask deploy-check` uses them.
FROM debian:bookworm-slim AS redis
WORKDIR /data
# As the official one, which is built without protected mode.
ENTRYPOINT ["/bin/sh", "-c", "exec \"$0\" \"$@\" --protected-mode no"]
CMD ["redis-server"]

FROM debian:bookworm-slim AS postgres
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh", "/usr/local/bin/docker-entrypoint.sh"]

FROM debian:bookworm-slim AS prometheus
ENTRYPOINT ["/usr/bin/prometheus"]

FROM scratch AS binaries
COPY binaries /binaries
