"""The keys of the knowledge base, and of the language models that can write it."""

from typing import Any, Literal

from pydantic import Field

from kanoclip.config.strict import Strict


class EndpointConfig(Strict):
    """An OpenAI-compatible endpoint and how it is asked."""

    base_url: str = Field(
        "https://api.openai.com/v1", description="address of the endpoint: OpenAI, Ollama, vLLM, llama.cpp"
    )
    model: str = Field("gpt-3.5-turbo", description="name of the model at the endpoint. The paper: GPT-3.5")
    key_variable: str | None = Field(
        "OPENAI_API_KEY", description="environment variable with the API key; null: a server without keys"
    )
    instruction: str = Field(
        "Answer with one plain English sentence of at most 40 words, without introduction.",
        description="system message; the paper gives none, but CLIP reads 77 tokens. '': none is sent",
    )
    request: dict[str, Any] = Field(
        default_factory=lambda: {"max_tokens": 150},
        description="further fields of every request, as the endpoint names them (temperature, seed, ...)",
    )
    concurrency: int = Field(4, gt=0, description="maximum number of concurrent requests")
    requests_per_minute: int | None = Field(None, gt=0, description="maximum number, retries included; null: no limit")
    timeout: float = Field(60.0, gt=0, description="seconds without any data after which a request has failed")
    retries: int = Field(
        6,
        ge=0,
        description="retries of a request that failed for the moment (no connection, time-out, 408, 409, 429, 5xx), "
        "with exponential back-off and jitter",
    )
    price: tuple[float, float] | None = Field(
        None, description="prices per million tokens of questions and of answers, to estimate the cost; null: unknown"
    )


class LlmConfig(EndpointConfig):
    """The language model that describes classes."""

    descriptions: int = Field(5, gt=0, description="answers per class (paper, section 3.1: n = 5)")


class VqaConfig(EndpointConfig):
    """The model that describes images."""

    base_url: str = Field(
        "http://localhost:11434/v1", description="address of the endpoint; default: Ollama on this machine"
    )
    model: str = Field(
        "llama3.2-vision",
        description='name of the model at the endpoint. The paper\'s "Llama3" reads no images; this one does',
    )
    key_variable: str | None = Field(None, description="as for llm")
    image_side: int = Field(
        512, gt=0, description="largest number of pixels of the longer side, as sent: one tile of OpenAI's"
    )


class KnowledgeConfig(Strict):
    """What describes the anomalies of the auxiliary dataset (paper, section 2.2)."""

    sources: tuple[Literal["curated", "mask", "llm", "vqa"], ...] = Field(
        ("curated", "mask"),
        min_length=1,
        description="curated: shipped sentences; mask: one sentence per image, from its mask; llm and vqa: the paper's "
        "questions to language models. Default: the two that need no network and give the same everywhere",
    )
    llm: LlmConfig = Field(LlmConfig(), description="the model asked about classes")
    vqa: VqaConfig = Field(VqaConfig(), description="the model asked about images")
