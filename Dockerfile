# docker build --build-arg REVISION=$(git rev-parse --short HEAD) -t isobar .
FROM rust:1-bookworm AS build
ARG REVISION=unknown
ENV ISOBAR_REVISION=$REVISION
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin isobar && install -D target/dist/isobar /out/isobar

# glibc and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/isobar /usr/local/bin/isobar
USER 65532:65532
EXPOSE 10259
ENTRYPOINT ["/usr/local/bin/isobar"]
CMD ["run", "--config=/etc/isobar/config.yaml"]
