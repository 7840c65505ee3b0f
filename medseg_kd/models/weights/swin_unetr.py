def convert(state):
    return dict(state)
