"""Everyday questions that the demonstration asks; the last six are only ever used to measure."""

ASKED_TO_MEASURE = 6

PROMPTS = (
    "How do I keep basil alive on a windowsill?",
    "What should I see in Lisbon in two days?",
    "Explain what inflation is.",
    "How can I fall asleep faster?",
    "Give me an idea for dinner with lentils.",
    "How do I start running?",
    "What is a good present for a ten-year-old?",
    "How do I write a short thank-you note to a teacher?",
    "Why is the sky blue?",
    "How do I remove a coffee stain from a shirt?",
    "What should I ask in a job interview?",
    "How do I learn ten new words a day?",
    "Describe a walk in the forest in autumn.",
    "How do I save money on groceries?",
    "Suggest a weekend without screens.",
    "How do I ask a neighbour to be quieter?",
    "What should I pack for a rainy hike?",
    "How does a bicycle stay upright?",
    "How do I make good tea?",
    "What is compound interest?",
    "How do I begin to keep a diary?",
    "What can I do with old newspapers?",
    "What is a healthy breakfast?",
    "What should I know before I adopt a cat?",
    "How do I repair a flat tyre on a bicycle?",
    "What is a fair way to share household work?",
)
