"""The 73 static models of EXO 0.0.15, in its order, and which of them its Linux engine can load."""

NAMES = """
llama-3.3-70b llama-3.2-1b llama-3.2-1b-8bit llama-3.2-3b llama-3.2-3b-8bit llama-3.2-3b-bf16 llama-3.1-8b
llama-3.1-70b llama-3.1-70b-bf16 llama-3-8b llama-3-70b llama-3.1-405b llama-3.1-405b-8bit mistral-nemo mistral-large
deepseek-coder-v2-lite deepseek-coder-v2.5 deepseek-v3 deepseek-v3-3bit deepseek-r1 deepseek-r1-3bit
deepseek-r1-distill-qwen-1.5b deepseek-r1-distill-qwen-1.5b-3bit deepseek-r1-distill-qwen-1.5b-6bit
deepseek-r1-distill-qwen-1.5b-8bit deepseek-r1-distill-qwen-1.5b-bf16 deepseek-r1-distill-qwen-7b
deepseek-r1-distill-qwen-7b-3bit deepseek-r1-distill-qwen-7b-6bit deepseek-r1-distill-qwen-7b-8bit
deepseek-r1-distill-qwen-7b-bf16 deepseek-r1-distill-qwen-14b deepseek-r1-distill-qwen-14b-3bit
deepseek-r1-distill-qwen-14b-6bit deepseek-r1-distill-qwen-14b-8bit deepseek-r1-distill-qwen-14b-bf16
deepseek-r1-distill-qwen-32b deepseek-r1-distill-qwen-32b-3bit deepseek-r1-distill-qwen-32b-6bit
deepseek-r1-distill-qwen-32b-8bit deepseek-r1-distill-qwen-32b-bf16 deepseek-r1-distill-llama-8b
deepseek-r1-distill-llama-8b-3bit deepseek-r1-distill-llama-8b-6bit deepseek-r1-distill-llama-8b-8bit
deepseek-r1-distill-llama-8b-bf16 deepseek-r1-distill-llama-70b deepseek-r1-distill-llama-70b-3bit
deepseek-r1-distill-llama-70b-6bit deepseek-r1-distill-llama-70b-8bit llava-1.5-7b-hf qwen-2.5-0.5b qwen-2.5-1.5b
qwen-2.5-coder-1.5b qwen-2.5-3b qwen-2.5-coder-3b qwen-2.5-7b qwen-2.5-coder-7b qwen-2.5-math-7b qwen-2.5-14b
qwen-2.5-coder-14b qwen-2.5-32b qwen-2.5-coder-32b qwen-2.5-72b qwen-2.5-math-72b nemotron-70b nemotron-70b-bf16
gemma2-9b gemma2-27b stable-diffusion-2-1-base phi-3.5-mini phi-4 dummy
"""
MODELS = NAMES.split()

TINYGRAD = {
    "llama-3.3-70b": ("unsloth/Llama-3.3-70B-Instruct", 80, "Llama 3.3 70B"),
    "llama-3.2-1b": ("unsloth/Llama-3.2-1B-Instruct", 16, "Llama 3.2 1B"),
    "llama-3.2-1b-8bit": ("unsloth/Llama-3.2-1B-Instruct", 16, "Llama 3.2 1B (8-bit)"),
    "llama-3.2-3b": ("unsloth/Llama-3.2-3B-Instruct", 28, "Llama 3.2 3B"),
    "llama-3.2-3b-8bit": ("unsloth/Llama-3.2-3B-Instruct", 28, "Llama 3.2 3B (8-bit)"),
    "llama-3.2-3b-bf16": ("unsloth/Llama-3.2-3B-Instruct", 28, "Llama 3.2 3B (BF16)"),
    "llama-3.1-8b": ("mlabonne/Meta-Llama-3.1-8B-Instruct-abliterated", 32, "Llama 3.1 8B"),
    "llama-3.1-70b": ("NousResearch/Meta-Llama-3.1-70B-Instruct", 80, "Llama 3.1 70B"),
    "llama-3.1-70b-bf16": ("NousResearch/Meta-Llama-3.1-70B-Instruct", 80, "Llama 3.1 70B (BF16)"),
    "llama-3-8b": ("TriAiExperiments/SFR-Iterative-DPO-LLaMA-3-8B-R", 32, "Llama 3 8B"),
    "llama-3-70b": ("TriAiExperiments/SFR-Iterative-DPO-LLaMA-3-70B-R", 80, "Llama 3 70B"),
}
"""Model -> (hub repository, layers, name)."""

ENGINES = {
    "tinygrad": "TinygradDynamicShardInferenceEngine",
    "mlx": "MLXDynamicShardInferenceEngine",
    "dummy": "DummyInferenceEngine",
}


def loadable(engine: str) -> list[str]:
    """Return the models that the engine of this class name can load."""
    return ["dummy"] if engine == ENGINES["dummy"] else list(TINYGRAD)
