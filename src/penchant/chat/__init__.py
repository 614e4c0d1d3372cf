"""Any chat model behind one protocol, and its answers as checked data.

Three back ends: weights through transformers, a GGUF file through llama.cpp's engine, any OpenAI-compatible URL.

>>> class Echo:
...     name = "echo"
...     def complete(self, messages, *, n=1, temperature=0.7, max_tokens=256, seed=0):
...         return [messages[-1]["content"]] * n
>>> import pydantic
>>> class Verdict(pydantic.BaseModel):
...     score: int
>>> structured(Echo(), [{"role": "user", "content": 'I would say {"score": 4}.'}], Verdict)
Verdict(score=4)
"""

from penchant.chat.llama import LlamaChat
from penchant.chat.names import chat_model
from penchant.chat.openai import OpenAIChat
from penchant.chat.protocol import Cached, ChatError, ChatModel, Message
from penchant.chat.structured import structured
from penchant.chat.transformers import TransformersChat

__all__ = [
    "Cached",
    "ChatError",
    "ChatModel",
    "LlamaChat",
    "Message",
    "OpenAIChat",
    "TransformersChat",
    "chat_model",
    "structured",
]
