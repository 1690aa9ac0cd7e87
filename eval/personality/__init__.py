"""What judges say of personality in texts and dialogues: two protocols with their controls."""
