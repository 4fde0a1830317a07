"""The service: ``genseg serve``, masks over HTTP for scripts and labeling tools.

`genseg.service.server` has the routes; `genseg.service.segmenting` segments images one after another; and there is a
module for each tool's protocol. Nothing of an image is ever written to disk.
"""
