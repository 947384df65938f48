"""What can be done with EmbedMQ from a shell?"""
