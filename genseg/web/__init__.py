"""The common part of servers: the queue of runs, bounds of what visitors may request, and checks of requests.

The page of ``genseg app`` and the service of ``genseg serve`` stand on it; nothing here needs Gradio.
"""
