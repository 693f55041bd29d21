# The three daemons as static binaries FROM scratch, for those who have Docker: `docker build -t localhost/samara:0.1.0 .`
# Without Docker `cargo xtask image` writes the same image as an OCI archive.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /samara
COPY rust-toolchain.toml ./
RUN rustup target add x86_64-unknown-linux-musl
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/samara/target \
    cargo build --locked --release --target x86_64-unknown-linux-musl \
        --package tracker --package operator --package sidecar \
        --bin samara-tracker --bin samara-operator --bin samara-sidecar \
    && mkdir /out && cp target/x86_64-unknown-linux-musl/release/samara-tracker \
        target/x86_64-unknown-linux-musl/release/samara-operator \
        target/x86_64-unknown-linux-musl/release/samara-sidecar /out/

FROM scratch
LABEL org.opencontainers.image.title="samara" \
      org.opencontainers.image.description="Peer-to-peer distribution of datasets and images to Kubernetes nodes" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/samara-tracker /samara-tracker
COPY --from=build /out/samara-operator /samara-operator
COPY --from=build /out/samara-sidecar /samara-sidecar
