"""Fine-tuning a teacher, distilling a student, and scoring texts with either."""
