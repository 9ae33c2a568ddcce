#!/usr/bin/env bash
# Installs what the serving bench compares with into .bench/ (ignored by git), from public registries only:
#   npm    node-llama-cpp, @huggingface/transformers (with its own onnxruntime-node)
#   PyPI   the source package of llama-cpp-python, which carries llama.cpp; built for this very CPU
#   PyPI   onnx, to write the ONNX directory that transformers.js reads
# Usage: bench/peers/install.sh CHECKPOINT_DIR MODEL.gguf     (the same weights in both forms)
set -euo pipefail

checkpoint=$(realpath "$1")
gguf=$(realpath "$2")
peers=$(dirname "$(realpath "$0")")
root=$(realpath "$peers/../..")/.bench
mkdir -p "$root/npm" "$root/llama" "$root/models"

node_llama_cpp=3.22.1
transformers=4.3.1
llama_cpp_python=0.3.36

if [ ! -d "$root/npm/node_modules/node-llama-cpp" ]; then
  echo '{"private":true,"type":"module"}' > "$root/npm/package.json"
  npm install --prefix "$root/npm" --ignore-scripts "node-llama-cpp@$node_llama_cpp" "@huggingface/transformers@$transformers"
fi

if [ ! -x "$root/llama/build/bin/llama-server" ]; then
  python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$root/llama" "llama-cpp-python==$llama_cpp_python"
  tar -xzf "$root"/llama/llama_cpp_python-*.tar.gz -C "$root/llama"
  nice -n 10 cmake -G Ninja -S "$root"/llama/llama_cpp_python-*/vendor/llama.cpp -B "$root/llama/build" -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF
  nice -n 10 cmake --build "$root/llama/build" -j2 --target llama-bench llama-server llama-quantize
fi

for bits in Q8_0 Q4_0; do
  [ -f "$root/models/$bits.gguf" ] || "$root/llama/build/bin/llama-quantize" --allow-requantize "$gguf" "$root/models/$bits.gguf" "$bits" 2
done

if [ ! -f "$root/models/transformers-js/onnx/model_q4.onnx" ]; then
  python3 -m venv "$root/python"
  "$root/python/bin/pip" install --quiet onnx==1.23.2 numpy==2.4.6
  "$root/python/bin/python" "$peers/export_transformers_js.py" "$checkpoint" "$root/models/transformers-js"
fi
