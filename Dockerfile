# syntax=docker/dockerfile:1
# Targets: `cpu` (the default; amd64 and arm64) and `cuda` (amd64).
#   docker build -t instructd .
#   docker build -t instructd:cuda --target cuda .
ARG NODE_IMAGE=node:20-bookworm-slim
# ONNX Runtime's CUDA provider of this version is built for CUDA 13 and cuDNN 9.
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The sources come in the next layer, so `prepare` (which builds) may not run yet; no dependency needs its install script.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build \
    && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
    && rm -rf dist/test dist/bench dist/.tsbuildinfo \
        node_modules/onnxruntime-node/bin/napi-v6/darwin node_modules/onnxruntime-node/bin/napi-v6/win32

# The provider is too large for npm. The wheel of the same release has it, built from the same commit as onnxruntime-node.
FROM python:3.11-slim-bookworm AS cuda-provider
ARG ONNXRUNTIME_VERSION=1.30.0
ARG ONNXRUNTIME_WHEEL_SHA256=4fbf0c5d7b5fb99266c2e8a802e3e64af68bdc383e0f3c7349b985f1087eedaa
WORKDIR /provider
RUN echo "onnxruntime-gpu==${ONNXRUNTIME_VERSION} --hash=sha256:${ONNXRUNTIME_WHEEL_SHA256}" > requirements.txt \
    && pip download --no-cache-dir --no-deps --only-binary=:all: --require-hashes -r requirements.txt \
    && python -m zipfile -e onnxruntime_gpu-*.whl wheel \
    && mv wheel/onnxruntime/capi/libonnxruntime_providers_cuda.so wheel/onnxruntime/capi/libonnxruntime_providers_shared.so . \
    && rm -rf wheel requirements.txt onnxruntime_gpu-*.whl

FROM ${CUDA_IMAGE} AS cuda
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app /app
# ONNX Runtime looks for its providers beside its own library.
COPY --from=cuda-provider /provider/ /app/node_modules/onnxruntime-node/bin/napi-v6/linux/x64/
RUN mkdir /data && chown 1000:1000 /data
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 DATA_DIR=/data PROVIDER=cuda
WORKDIR /app
USER 1000:1000
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/app/bin/instructd"]
CMD ["serve"]

# Last, so that a build without --target gives it.
FROM ${NODE_IMAGE} AS cpu
COPY --from=build /app /app
RUN mkdir /data && chown 1000:1000 /data
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 DATA_DIR=/data PROVIDER=cpu
WORKDIR /app
USER 1000:1000
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["/app/bin/instructd"]
CMD ["serve"]
