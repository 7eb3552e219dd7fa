"""Clore.ai, a marketplace of GPU hosts (facts: Clore API reference, `shared/reference/clore-api.md`).

`api` speaks HTTP, `limiter` spaces the calls, `parse` reads replies, `pricing` does the money, `survey` picks servers,
`orders` writes and recognises orders, `provider` puts them behind the port.
"""
