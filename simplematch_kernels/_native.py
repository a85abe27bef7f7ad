def why_not():
    return "not built"
