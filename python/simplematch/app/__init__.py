"""`simplematch app`: a page in the browser that matches keypoints of two pictures.

    serve.py     opens the port and runs the server        server.py    the addresses that the page calls
    security.py  who may call them                         bodies.py    checks of what the page sends
    sessions.py  the pictures of each open page            pictures.py  uploads, decoded and made smaller
    models.py    which models can be chosen                matching.py  the matches of points
    export.py    files to download                         examples.py  pictures of installed packages
    static/      the page: HTML, CSS and JavaScript modules, without a build step

Starlette and uvicorn, the extra `app`, are imported by server.py, security.py and serve.py alone.
"""
