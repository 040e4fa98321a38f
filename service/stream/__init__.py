"""Where records come from: brokers, sources and the road for what cannot be learned."""
