"""The app: ``genseg app``, a page in the browser that shows what a model sees in an image.

What one tab holds and does is in `genseg.app.session`, without Gradio; `genseg.app.page` lays it out and
`genseg.app.server` serves it. Of an image, only exports pass through the disk, and do not stay there.
"""
