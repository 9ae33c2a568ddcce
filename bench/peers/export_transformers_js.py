"""Writes a Llama checkpoint as the ONNX directory that @huggingface/transformers reads (dtypes q8 and q4).

    python export_transformers_js.py CHECKPOINT_DIR OUT_DIR        (numpy and onnx only)

No hub is needed. The form is the strongest that transformers.js is served with in the field, that of ONNX Runtime's own model builder:
GroupQueryAttention with rotary embedding inside, fused residual norms, MatMulNBits of block 32 with int8 activations
(accuracy level 4), and `num_logits_to_keep`, so that a prefill computes one row of logits only. An Optimum export with plain
MatMul/Softmax attention and dynamic per-tensor quantisation would be slower.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"
BLOCK = 32


def read_bf16(path: Path) -> dict[str, np.ndarray]:
    """float32 arrays of a safetensors file in bfloat16."""
    blob = path.read_bytes()
    header_length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8 : 8 + header_length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}, expected BF16"
        start, end = (8 + header_length + offset for offset in entry["data_offsets"])
        bits = np.frombuffer(blob[start:end], np.uint16).astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


def quantize(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """[out, in] to MatMulNBits blocks and scales, symmetric."""
    out, inner = weight.shape
    blocks = weight.reshape(out, inner // BLOCK, BLOCK)
    if bits == 8:
        scale = np.abs(blocks).max(-1, keepdims=True) / 127
        scale[scale == 0] = 1
        return (np.rint(blocks / scale) + 128).astype(np.uint8), scale.reshape(-1)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scale = extreme / -8
    scale[scale == 0] = 1
    q = (np.rint(blocks / scale) + 8).clip(0, 15).astype(np.uint8)
    return q[..., 0::2] | (q[..., 1::2] << 4), scale.reshape(-1)


class Graph:
    def __init__(self, bits: int):
        self.bits = bits
        self.nodes, self.constants = [], []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{op}/{outputs[0]}", domain=domain, **attributes))
        return outputs[0]

    def project(self, x: str, weight: np.ndarray, out: str) -> str:
        blocks, scales = quantize(weight, self.bits)
        inputs = [x, self.constant(f"{out}.weight", blocks), self.constant(f"{out}.scales", scales)]
        n, k = weight.shape
        return self.add("MatMulNBits", inputs, [out], CONTRIB, K=k, N=n, bits=self.bits, block_size=BLOCK, accuracy_level=4)


def build(config: dict, weights: dict[str, np.ndarray], bits: int) -> onnx.ModelProto:
    layers, heads, kv_heads = config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]
    head_size, vocabulary = config["hidden_size"] // heads, config["vocab_size"]
    epsilon = config["rms_norm_eps"]
    g = Graph(bits)
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    angles = np.arange(config["max_position_embeddings"])[:, None] / theta ** (np.arange(0, head_size, 2) / head_size)
    g.constant("cos", np.cos(angles).astype(np.float32))
    g.constant("sin", np.sin(angles).astype(np.float32))
    value = helper.make_tensor_value_info
    inputs = [value(n, TensorProto.INT64, ["batch_size", s]) for n, s in (("input_ids", "sequence_length"), ("attention_mask", "total_sequence_length"), ("position_ids", "sequence_length"))]
    inputs.append(value("num_logits_to_keep", TensorProto.INT64, []))
    outputs = [value("logits", TensorProto.FLOAT, ["batch_size", "kept", vocabulary])]

    axis, one = g.constant("axis1", np.array([1])), g.constant("one", np.array(1))
    g.add("ReduceSum", ["attention_mask", axis], ["length"], keepdims=0)
    g.add("Sub", ["length", one], ["last"])
    g.add("Cast", ["last"], ["seqlens_k"], to=TensorProto.INT32)
    g.add("Shape", ["attention_mask"], ["mask_shape"])
    g.add("Gather", ["mask_shape", one], ["total64"])
    g.add("Cast", ["total64"], ["total"], to=TensorProto.INT32)

    embedding = weights["model.embed_tokens.weight"]
    residual = g.add("Gather", [g.constant("embedding", embedding), "input_ids"], ["embedded"])
    norm = g.constant("norm.0", weights["model.layers.0.input_layernorm.weight"])
    x = g.add("SimplifiedLayerNormalization", [residual, norm], ["x.0"], epsilon=epsilon, axis=-1)

    def add_and_norm(residual: str, delta: str, weight: np.ndarray, name: str) -> tuple[str, str]:
        g.add("SkipSimplifiedLayerNormalization", [residual, delta, g.constant(f"{name}.norm", weight)], [name, "", "", f"{name}.residual"], CONTRIB, epsilon=epsilon)
        return name, f"{name}.residual"

    for i in range(layers):
        w = lambda name: weights[f"model.layers.{i}.{name}.weight"]
        cache = {}
        for kind in ("key", "value"):
            cache[kind] = (f"past_key_values.{i}.{kind}", f"present.{i}.{kind}")
            inputs.append(value(cache[kind][0], TensorProto.FLOAT, ["batch_size", kv_heads, "past_sequence_length", head_size]))
            outputs.append(value(cache[kind][1], TensorProto.FLOAT, ["batch_size", kv_heads, "total_sequence_length", head_size]))
        qkv = g.project(x, np.concatenate([w(f"self_attn.{p}_proj") for p in "qkv"]), f"qkv.{i}")
        attended = [f"attention.{i}", cache["key"][1], cache["value"][1]]
        g.add("GroupQueryAttention", [qkv, "", "", cache["key"][0], cache["value"][0], "seqlens_k", "total", "cos", "sin"], attended, CONTRIB, num_heads=heads, kv_num_heads=kv_heads, do_rotary=1)
        x, residual = add_and_norm(residual, g.project(attended[0], w("self_attn.o_proj"), f"o.{i}"), w("post_attention_layernorm"), f"y.{i}")
        gate, up = (g.project(x, w(f"mlp.{p}_proj"), f"{p}.{i}") for p in ("gate", "up"))
        g.add("Sigmoid", [gate], [f"sigmoid.{i}"])
        g.add("Mul", [gate, f"sigmoid.{i}"], [f"silu.{i}"])
        g.add("Mul", [f"silu.{i}", up], [f"hidden.{i}"])
        following = weights[f"model.layers.{i + 1}.input_layernorm.weight"] if i + 1 < layers else weights["model.norm.weight"]
        x, residual = add_and_norm(residual, g.project(f"hidden.{i}", w("mlp.down_proj"), f"down.{i}"), following, f"x.{i + 1}")

    g.add("Neg", ["num_logits_to_keep"], ["negative"])
    g.add("Reshape", ["negative", g.constant("vector", np.array([1]))], ["start"])
    g.add("Slice", [x, "start", g.constant("end", np.array([2**31 - 1])), axis], ["kept"])
    head = embedding if config.get("tie_word_embeddings") else weights["lm_head.weight"]
    g.project("kept", head, "logits")
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(CONTRIB, 1)], ir_version=9)


def main(source: Path, target: Path) -> None:
    (target / "onnx").mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, target / name)
    config = json.loads((source / "config.json").read_text())
    weights = read_bf16(source / "model.safetensors")
    for bits, suffix in ((8, "quantized"), (4, "q4")):
        onnx.save(build(config, weights, bits), target / "onnx" / f"model_{suffix}.onnx")


main(Path(sys.argv[1]), Path(sys.argv[2]))
