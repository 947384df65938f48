"""The engine: from texts to vectors. Only these modules import torch."""
