"""How fast is EmbedMQ, as a ratio to something simpler measured in the same run?"""
