"""A codec as a server: HTTP, WebSocket and a page to try it. Needs the extra ``[serve]``; see ``docs/serve.md``.

Nothing here computes: bodies become tensors, an engine makes tensors of them, and those become answers.
"""
