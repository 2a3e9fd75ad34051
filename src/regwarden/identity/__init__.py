"""How do people and programs show who they are: directory, identity providers, signed tokens?"""
