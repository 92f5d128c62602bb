"""A conversation: turns in, answers out.

In: questions and images; out: answers, streams, session files. Imports the rooms that a question passes through;
nothing but the front door and the entrances imports it.
"""
